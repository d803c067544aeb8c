package host

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"screenshot-operator.io/tests/cluster/internal/layout"
	"screenshot-operator.io/tests/cluster/internal/node"
)

// A process with the right command line that is no pid 1 of a namespace must never be killed.
func TestOnlyPID1OfANamespaceIsTakenForTheCluster(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("namespaces need root")
	}
	name := "host-test"
	for what, c := range map[string]struct {
		args  []string
		flags uintptr
		want  bool
	}{
		"the same arguments on the host":  {[]string{"cluster", node.Command, name}, 0, false},
		"pid 1 of another cluster":        {[]string{"cluster", node.Command, name + "-2"}, syscall.CLONE_NEWPID, false},
		"pid 1 of something else":         {[]string{"cluster", "serve", name}, syscall.CLONE_NEWPID, false},
		"pid 1 of the cluster":            {[]string{"cluster", node.Command, name}, syscall.CLONE_NEWPID, true},
		"pid 1 with one argument too few": {[]string{"cluster", node.Command}, syscall.CLONE_NEWPID, false},
	} {
		cmd := fakeProcess(t, c.args, c.flags, nil)
		if got := isPID1(cmd.Process.Pid, name); got != c.want {
			t.Errorf("%s: %v", what, got)
		}
	}
}

// The same arguments alone, or any file as descriptor 3, must not do either.
func TestOnlyWhoHoldsAProcessIsTakenForTheCaretaker(t *testing.T) {
	name := "host-test"
	fd, err := unix.PidfdOpen(os.Getpid(), 0)
	if err != nil {
		t.Fatal(err)
	}
	process := os.NewFile(uintptr(fd), "a process")
	defer process.Close()
	file, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	for what, c := range map[string]struct {
		args []string
		file *os.File
		want bool
	}{
		"the caretaker":                       {[]string{"cluster", CaretakerCommand, name}, process, true},
		"the same arguments":                  {[]string{"cluster", CaretakerCommand, name}, nil, false},
		"the same arguments and another file": {[]string{"cluster", CaretakerCommand, name}, file, false},
		"another cluster's":                   {[]string{"cluster", CaretakerCommand, name + "-2"}, process, false},
		"who holds a process for other ends":  {[]string{"cluster", "serve", name}, process, false},
	} {
		cmd := fakeProcess(t, c.args, 0, c.file)
		if got := isCaretaker(cmd.Process.Pid, name); got != c.want {
			t.Errorf("%s: %v", what, got)
		}
	}
}

// fakeProcess is this test binary, waiting, with a command line and a descriptor 3 of our choice.
func fakeProcess(t *testing.T, args []string, flags uintptr, file *os.File) *exec.Cmd {
	t.Helper()
	cmd := exec.Command("/proc/self/exe")
	cmd.Args, cmd.Env = args, append(os.Environ(), "HOST_TEST_WAIT=1")
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: flags}
	if file != nil {
		cmd.ExtraFiles = []*os.File{file}
	}
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		in.Close() // ends it
		_ = cmd.Wait()
	})
	if _, err := out.Read(make([]byte, 1)); err != nil { // it has started
		t.Fatal(err)
	}
	return cmd
}

func TestMain(m *testing.M) {
	if os.Getenv("HOST_TEST_WAIT") != "" {
		_, _ = os.Stdout.WriteString("x")
		_, _ = os.Stdin.Read(make([]byte, 1))
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func TestADirectoryThatOthersCanWriteToIsRefused(t *testing.T) {
	base := t.TempDir()
	link, open, fine := filepath.Join(base, "link"), filepath.Join(base, "open"), filepath.Join(base, "fine")
	if err := os.Symlink(base, link); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(open, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(open, 0o777); err != nil {
		t.Fatal(err)
	}
	if ownDir(link) == nil || ownDir(open) == nil {
		t.Error("a link or a directory open to all was taken")
	}
	if err := ownDir(fine); err != nil {
		t.Error(err)
	}
	if err := ownDir(fine); err != nil {
		t.Errorf("the second time: %v", err)
	}
}

func TestATreeIsRemovedLeavesFirst(t *testing.T) {
	root := filepath.Join(t.TempDir(), "root")
	if err := os.MkdirAll(filepath.Join(root, "a/b/c"), 0o755); err != nil {
		t.Fatal(err)
	}
	removeTree(root)
	if _, err := os.Stat(root); !os.IsNotExist(err) {
		t.Errorf("still there: %v", err)
	}
}

func TestTheStatusOfNoClusterIsNoError(t *testing.T) {
	s, err := GetStatus("host-test-none")
	if err != nil || s.Up || s.Spec != nil {
		t.Fatalf("%+v, %v", s, err)
	}
	var b strings.Builder
	if err := s.Print(&b, true); err != nil {
		t.Fatal(err)
	}
	if want := `"seccompDir": "` + layout.KubeletRoot + `/seccomp"`; !strings.Contains(b.String(), want) {
		t.Errorf("no %s in %s", want, b.String())
	}
}

func TestThisProcessIsAMemberOfItsOwnTree(t *testing.T) {
	m := members(os.Getpid())
	if len(m) == 0 || m[0] != os.Getpid() || memory(m[:1]) <= 0 {
		t.Errorf("members %v, memory %d", m, memory(m))
	}
}
