package osspecific

import (
	"os"
	"syscall"
	"time"

	"github.com/argoproj/argo-workflows/v4/util/errors"
)

// Term asks a process to end.
var Term = syscall.SIGTERM

// CanIgnoreSignal says that a signal is for argoexec itself and must not go to the step's command.
func CanIgnoreSignal(s os.Signal) bool { return s == syscall.SIGCHLD || s == syscall.SIGURG }

// Kill signals the process group of pid, or pid alone where it has no group.
func Kill(pid int, s syscall.Signal) error {
	if group, err := syscall.Getpgid(pid); err == nil {
		return syscall.Kill(-group, s)
	}
	return syscall.Kill(pid, s)
}

// Setpgid gives the command a process group of its own.
func Setpgid(attributes *syscall.SysProcAttr) { attributes.Setpgid = true }

// Wait reaps children until the process has ended, and returns its exit code as Argo's error.
func Wait(process *os.Process) error {
	pid := process.Pid
	if err := process.Release(); err != nil {
		return err
	}
	for {
		var status syscall.WaitStatus
		ended, err := syscall.Wait4(-1, &status, syscall.WNOHANG, nil)
		if err != nil {
			return err
		}
		if ended == pid && status.Exited() {
			return errors.NewExitErr(status.ExitStatus())
		}
		if ended == pid && status.Signaled() {
			return errors.NewExitErr(128 + int(status.Signal()))
		}
		if ended <= 0 {
			time.Sleep(100 * time.Millisecond)
		}
	}
}
