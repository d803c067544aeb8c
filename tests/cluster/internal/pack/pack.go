// Package pack makes container images FROM scratch out of static programs, without a container tool.
// In: programs and a name. Out: a docker-archive (docker save's format) with one layer, the same bytes
// for the same programs. It must not need a base image: the cluster has no registry to take one from.
package pack

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
)

// User is the numeric user and group the packed images run as.
const User = "65532:65532"

// Image describes one image.
type Image struct {
	Name     string   // full reference, "localhost/x:1"
	Programs []string // files that go to /; the first is the entry point
}

// Write packs the image as a docker-archive at path, replacing it in one step.
func Write(path string, img Image) error {
	f, err := os.Create(path + ".new")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name()) // gone already when all went well
	if err := errors.Join(Archive(f, img), f.Close()); err != nil {
		return fmt.Errorf("image %s: %w", img.Name, err)
	}
	return os.Rename(f.Name(), path)
}

// Archive writes the docker-archive to w.
func Archive(w io.Writer, img Image) error {
	if len(img.Programs) == 0 || img.Name == "" {
		return errors.New("an image needs a name and a program")
	}
	layer, err := makeLayer(img.Programs)
	if err != nil {
		return err
	}
	digest := sum(layer)
	config, err := json.Marshal(map[string]any{
		"architecture": runtime.GOARCH, "os": "linux",
		"config": map[string]any{
			"Entrypoint": []string{"/" + filepath.Base(img.Programs[0])},
			"Env":        []string{"PATH=/"}, "User": User,
		},
		"rootfs": map[string]any{"type": "layers", "diff_ids": []string{"sha256:" + digest}},
	})
	if err != nil {
		return err
	}
	configName, layerName := sum(config)+".json", digest+"/layer.tar"
	manifest, err := json.Marshal([]map[string]any{{
		"Config": configName, "RepoTags": []string{img.Name}, "Layers": []string{layerName},
	}})
	if err != nil {
		return err
	}
	t := tar.NewWriter(w)
	for _, e := range []struct {
		name string
		data []byte
	}{{configName, config}, {"manifest.json", manifest}, {layerName, layer}} {
		if err := add(t, e.name, 0o644, e.data); err != nil {
			return err
		}
	}
	return t.Close()
}

func makeLayer(programs []string) ([]byte, error) {
	var b bytes.Buffer
	t := tar.NewWriter(&b)
	if err := t.WriteHeader(&tar.Header{Name: "tmp/", Mode: 0o1777, Typeflag: tar.TypeDir}); err != nil {
		return nil, err
	}
	for _, p := range programs {
		data, err := os.ReadFile(p)
		if err != nil {
			return nil, err
		}
		if err := add(t, filepath.Base(p), 0o755, data); err != nil {
			return nil, err
		}
	}
	if err := t.Close(); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}

// add leaves owner and time zero, so that the same programs give the same image.
func add(t *tar.Writer, name string, mode int64, data []byte) error {
	if err := t.WriteHeader(&tar.Header{Name: name, Mode: mode, Size: int64(len(data)), Typeflag: tar.TypeReg}); err != nil {
		return err
	}
	_, err := t.Write(data)
	return err
}

func sum(b []byte) string {
	h := sha256.Sum256(b)
	return hex.EncodeToString(h[:])
}
