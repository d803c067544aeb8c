package main

// The rig: Argo CD's programs, redis and a git server as processes beside the test, all on the loopback of the test
// cluster's node, from where no other network can be reached. In: ARGOCD_PROGRAM (this module's program),
// ARGOCD_MANIFESTS (upstream's), KUBECONFIG. Out: a running Argo CD. Everything ends with the test.

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/cgi"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/tools/clientcmd"

	"screenshot-operator.io/tests/gitops/cases"
)

const (
	redis      = "127.0.0.1:16379"
	repoServer = "127.0.0.1:18081"
	apiServer  = "127.0.0.1:18080"
	gitServer  = "127.0.0.1:19418"
	repository = "http://" + gitServer + "/screenshots.git"
)

type rig struct {
	dir        string
	kubeconfig string
	kube       dynamic.Interface
}

// newRig starts everything.
func newRig(t *testing.T) *rig {
	t.Helper()
	r := &rig{dir: t.TempDir()}
	r.connect(t)
	r.serveGit(t)
	r.installArgoCD(t)
	r.start(t, redis, "redis-server", "redis-server", "--bind", "127.0.0.1", "--port", "16379", "--save", "", "--appendonly", "no", "--dir", r.dir)
	program := os.Getenv("ARGOCD_PROGRAM")
	r.helperScript(t)
	r.start(t, repoServer, program, "argocd-repo-server", "--address", "127.0.0.1", "--port", "18081",
		"--metrics-address", "127.0.0.1", "--metrics-port", "18084", "--redis", redis)
	r.start(t, "127.0.0.1:18082", program, "argocd-application-controller", "--kubeconfig", r.kubeconfig, "--namespace", "argocd",
		"--metrics-port", "18082", "--redis", redis, "--repo-server", repoServer)
	r.start(t, apiServer, program, "argocd-server", "--kubeconfig", r.kubeconfig, "--namespace", "argocd",
		"--address", "127.0.0.1", "--port", "18080", "--metrics-port", "18083", "--redis", redis, "--repo-server", repoServer,
		"--dex-server", "http://127.0.0.1:1", "--insecure", "--disable-auth", "--staticassets", r.dir)
	return r
}

// helperScript puts on the PATH what Argo CD's image has there and its repository server calls for every commit.
func (r *rig) helperScript(t *testing.T) {
	t.Helper()
	const name = "git-verify-wrapper.sh"
	text, err := os.ReadFile(filepath.Join(os.Getenv("ARGOCD_MANIFESTS"), "..", "hack", name))
	must(t, err)
	must(t, os.WriteFile(filepath.Join(r.dir, name), text, 0o755))
	t.Setenv("PATH", r.dir+":"+os.Getenv("PATH"))
}

// connect makes a kubeconfig for the API server's own loopback out of the one for the host's.
func (r *rig) connect(t *testing.T) {
	t.Helper()
	config, err := clientcmd.LoadFromFile(os.Getenv("KUBECONFIG"))
	must(t, err)
	for _, cluster := range config.Clusters {
		cluster.Server = "https://127.0.0.1:6443"
	}
	for _, ctx := range config.Contexts {
		ctx.Namespace = "argocd"
	}
	r.kubeconfig = filepath.Join(r.dir, "kubeconfig")
	must(t, clientcmd.WriteToFile(*config, r.kubeconfig))
	rest, err := clientcmd.BuildConfigFromFlags("", r.kubeconfig)
	must(t, err)
	rest.QPS, rest.Burst = 100, 200
	r.kube, err = dynamic.NewForConfig(rest)
	must(t, err)
}

// serveGit serves the repository over smart HTTP, with git's own backend.
func (r *rig) serveGit(t *testing.T) {
	t.Helper()
	r.run(t, r.dir, "git", "init", "-q", "--bare", "--initial-branch=main", "git/screenshots.git")
	r.run(t, r.dir, "git", "clone", "-q", "git/screenshots.git", "work")
	path := strings.TrimSpace(r.run(t, r.dir, "git", "--exec-path"))
	backend := &cgi.Handler{
		Path: filepath.Join(path, "git-http-backend"),
		Env:  []string{"GIT_PROJECT_ROOT=" + filepath.Join(r.dir, "git"), "GIT_HTTP_EXPORT_ALL=1"},
	}
	listener, err := net.Listen("tcp", gitServer)
	must(t, err)
	server := &http.Server{Handler: backend, ReadHeaderTimeout: 5 * time.Second}
	go func() { _ = server.Serve(listener) }()
	t.Cleanup(func() { _ = server.Close() })
}

// commit puts files into the repository; one without content is removed.
func (r *rig) commit(t *testing.T, files map[string]string) {
	t.Helper()
	work := filepath.Join(r.dir, "work")
	for path, content := range files {
		path = filepath.Join(work, path)
		if content == "" {
			must(t, os.Remove(path))
			continue
		}
		must(t, os.MkdirAll(filepath.Dir(path), 0o755))
		must(t, os.WriteFile(path, []byte(content), 0o644))
	}
	r.run(t, work, "git", "add", "-A")
	r.run(t, work, "git", "-c", "user.name=test", "-c", "user.email=test@example.com", "commit", "-q", "-m", "change")
	r.run(t, work, "git", "push", "-q", "origin", "HEAD:main")
}

// installArgoCD gives the cluster what Argo CD's installation would: its CRDs and its configuration, with our part.
func (r *rig) installArgoCD(t *testing.T) {
	t.Helper()
	r.apply(t, "apiVersion: v1\nkind: Namespace\nmetadata: {name: argocd}\n")
	var empty strings.Builder
	for _, name := range []string{"ConfigMap argocd-rbac-cm", "ConfigMap argocd-tls-certs-cm", "ConfigMap argocd-ssh-known-hosts-cm",
		"ConfigMap argocd-gpg-keys-cm", "ConfigMap argocd-cm", "Secret argocd-secret"} {
		kind, name, _ := strings.Cut(name, " ")
		fmt.Fprintf(&empty, "---\napiVersion: v1\nkind: %s\nmetadata:\n  name: %s\n  namespace: argocd\n  labels: {app.kubernetes.io/part-of: argocd}\n", kind, name)
	}
	r.apply(t, empty.String())
	r.kubectl(t, "apply", "--server-side", "-f", filepath.Join(os.Getenv("ARGOCD_MANIFESTS"), "crds/application-crd.yaml"),
		"-f", filepath.Join(os.Getenv("ARGOCD_MANIFESTS"), "crds/appproject-crd.yaml"))
	r.teach(t)
	r.kubectl(t, "wait", "--for=condition=Established", "crd/applications.argoproj.io", "crd/appprojects.argoproj.io", "--timeout=30s")
}

// teach gives Argo CD our scripts, as gitops/README.md says.
func (r *rig) teach(t *testing.T) {
	t.Helper()
	r.kubectl(t, "patch", "configmap", "argocd-cm", "--namespace", "argocd", "--patch-file", cases.Root("gitops/argocd/argocd-cm.yaml"))
}

// start runs a program until the test ends, and waits until it listens.
func (r *rig) start(t *testing.T, address, path, name string, args ...string) {
	t.Helper()
	path, err := exec.LookPath(path)
	must(t, err)
	log, err := os.Create(filepath.Join(r.logs(), name+".log"))
	must(t, err)
	command := exec.Command(path, args...)
	command.Args[0] = name
	command.Dir = r.dir
	command.Stdout, command.Stderr = log, log
	command.Env = append(os.Environ(), "HOME="+r.dir, "TMPDIR="+r.dir, "ARGOCD_GPG_ENABLED=false", "ARGOCD_FAKE_IN_CLUSTER=true", "KUBECONFIG="+r.kubeconfig,
		"ARGOCD_TLS_DATA_PATH="+r.dir, "ARGOCD_SSH_DATA_PATH="+r.dir, "HOSTNAME=argocd-application-controller-0")
	command.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	must(t, command.Start())
	ended := make(chan error, 1)
	go func() { ended <- command.Wait() }()
	t.Cleanup(func() {
		_ = command.Process.Kill()
		<-ended
		_ = log.Close()
	})
	for deadline := time.Now().Add(60 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		if connection, err := net.Dial("tcp", address); err == nil {
			_ = connection.Close()
			return
		}
		select {
		case err := <-ended:
			ended <- err
			t.Fatalf("%s ended: %v; its log is %s", name, err, log.Name())
		default:
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s does not listen on %s; its log is %s", name, address, log.Name())
		}
	}
}

func (r *rig) logs() string {
	if dir := os.Getenv("ARGOCD_LOGS"); dir != "" {
		return dir
	}
	return r.dir
}

func (r *rig) kubectl(t *testing.T, args ...string) string {
	t.Helper()
	return r.run(t, ".", "kubectl", append([]string{"--kubeconfig", r.kubeconfig}, args...)...)
}

func (r *rig) apply(t *testing.T, manifest string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "manifest.yaml")
	must(t, os.WriteFile(path, []byte(manifest), 0o600))
	r.kubectl(t, "apply", "--server-side", "--force-conflicts", "-f", path)
}

func (r *rig) run(t *testing.T, dir, name string, args ...string) string {
	t.Helper()
	command := exec.Command(name, args...)
	command.Dir = dir
	var errors bytes.Buffer
	command.Stderr = &errors
	out, err := command.Output()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, errors.String())
	}
	return string(out)
}

// api asks Argo CD's API server.
func (r *rig) api(t *testing.T, method, path, body string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, method, "http://"+apiServer+path, strings.NewReader(body))
	must(t, err)
	request.Header.Set("Content-Type", "application/json")
	answer, err := http.DefaultClient.Do(request)
	must(t, err)
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	must(t, err)
	if answer.StatusCode != http.StatusOK {
		t.Fatalf("%s %s: %s: %s", method, path, answer.Status, text)
	}
	return string(text)
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// eventually asks every 200 ms until the answer is yes; else the test fails with what the answer was.
func eventually(t *testing.T, limit time.Duration, what string, ask func() (bool, string)) {
	t.Helper()
	start := time.Now()
	for {
		yes, answer := ask()
		if yes {
			t.Logf("%s after %.1f s", what, time.Since(start).Seconds())
			return
		}
		if time.Since(start) > limit {
			t.Fatalf("not within %s: %s; it is: %s", limit, what, answer)
		}
		time.Sleep(200 * time.Millisecond)
	}
}
