package pack

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"
)

func program(t *testing.T) string {
	t.Helper()
	p := filepath.Join(t.TempDir(), "prog")
	if err := os.WriteFile(p, []byte("#!program"), 0o700); err != nil {
		t.Fatal(err)
	}
	return p
}

func entries(t *testing.T, r io.Reader) (map[string][]byte, map[string]*tar.Header) {
	t.Helper()
	data, headers := map[string][]byte{}, map[string]*tar.Header{}
	tr := tar.NewReader(r)
	for {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			return data, headers
		}
		if err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(tr)
		if err != nil {
			t.Fatal(err)
		}
		data[h.Name], headers[h.Name] = b, h
	}
}

func TestAnArchiveNamesItsConfigAndItsLayerByDigest(t *testing.T) {
	var b bytes.Buffer
	if err := Archive(&b, Image{Name: "localhost/x:1", Programs: []string{program(t)}}); err != nil {
		t.Fatal(err)
	}
	files, _ := entries(t, &b)
	var manifest []struct {
		Config           string
		RepoTags, Layers []string
	}
	if err := json.Unmarshal(files["manifest.json"], &manifest); err != nil || len(manifest) != 1 {
		t.Fatalf("manifest: %v", err)
	}
	m := manifest[0]
	if m.RepoTags[0] != "localhost/x:1" || m.Config != sum(files[m.Config])+".json" {
		t.Errorf("manifest %+v", m)
	}
	layer := files[m.Layers[0]]
	var config struct {
		Config struct {
			Entrypoint []string
			User       string
		}
		Rootfs struct {
			DiffIDs []string `json:"diff_ids"`
		}
	}
	if err := json.Unmarshal(files[m.Config], &config); err != nil {
		t.Fatal(err)
	}
	if config.Rootfs.DiffIDs[0] != "sha256:"+sum(layer) {
		t.Error("the config does not name the layer's digest")
	}
	if config.Config.User != User || config.Config.Entrypoint[0] != "/prog" {
		t.Errorf("config %+v", config.Config)
	}
	data, headers := entries(t, bytes.NewReader(layer))
	if string(data["prog"]) != "#!program" || headers["prog"].Mode != 0o755 || headers["prog"].Uid != 0 {
		t.Errorf("program entry %+v", headers["prog"])
	}
	if headers["tmp/"] == nil || headers["tmp/"].Mode != 0o1777 {
		t.Error("no /tmp that everyone can write to")
	}
}

func TestTheSameProgramsGiveTheSameBytes(t *testing.T) {
	img := Image{Name: "localhost/x:1", Programs: []string{program(t)}}
	var a, b bytes.Buffer
	if err := errors.Join(Archive(&a, img), Archive(&b, img)); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(a.Bytes(), b.Bytes()) {
		t.Error("the archives differ")
	}
}

func TestAFailedWriteLeavesNoFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x.tar")
	if err := Write(path, Image{Name: "localhost/x:1", Programs: []string{"/nonexistent"}}); err == nil {
		t.Fatal("no error")
	}
	if l, _ := filepath.Glob(path + "*"); len(l) != 0 {
		t.Errorf("left: %v", l)
	}
}
