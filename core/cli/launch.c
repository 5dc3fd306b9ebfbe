/* launch.c - children of the tool. */
#include "launch.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "process.h"

#define LAUNCH_STEP_MS 50

static volatile sig_atomic_t launch_child; /* as kill() takes it; 0: none */
static const int launch_signals[] = {SIGINT, SIGTERM, SIGHUP};
#define LAUNCH_SIGNALS (sizeof launch_signals / sizeof launch_signals[0])

static volatile sig_atomic_t launch_was_signalled;

/* What a terminal sends to the tool's group a child in that group gets by itself. */
static void launch_hand_on(int number, siginfo_t *info, void *context) {
  (void)context;
  launch_was_signalled = 1;
  if (launch_child > 0 && info->si_code == SI_KERNEL) return;
  if (launch_child != 0) kill((pid_t)launch_child, number);
}

static void launch_handle_signals(bool on) {
  struct sigaction to = {.sa_flags = on ? SA_SIGINFO : 0};

  if (on)
    to.sa_sigaction = launch_hand_on;
  else
    to.sa_handler = SIG_DFL;
  for (size_t i = 0; i < LAUNCH_SIGNALS; i++) sigaction(launch_signals[i], &to, NULL);
}

/* In the child. A failure of exec is told through the pipe. */
static _Noreturn void launch_exec(char **command, unsigned how, int pipe_fd) {
  int why;

  if ((how & LAUNCH_SHARED) == 0) setpgid(0, 0);
  if ((how & LAUNCH_TO_STDERR) != 0) dup2(STDERR_FILENO, STDOUT_FILENO);
  execvp(command[0], command);
  why = errno;
  if (write(pipe_fd, &why, sizeof why) != sizeof why) _exit(CLI_NOT_RUNNABLE);
  _exit(CLI_NO_COMMAND);
}

static int launch_fork(launch *out, char **command, unsigned how) {
  int ends[2], why = 0, code = CLI_OK;

  if (pipe2(ends, O_CLOEXEC) != 0)
    return cli_fail(CLI_SYSTEM, "pipe: %s", strerror(errno));
  out->pid = fork();
  if (out->pid == 0) launch_exec(command, how, ends[1]);
  close(ends[1]);
  if (out->pid < 0) {
    code = cli_fail(CLI_SYSTEM, "fork: %s", strerror(errno));
  } else if (read(ends[0], &why, sizeof why) == sizeof why) {
    waitpid(out->pid, NULL, 0);
    code = cli_fail(why == ENOENT ? CLI_NO_COMMAND : CLI_NOT_RUNNABLE, "%s: %s",
                    command[0], strerror(why));
  }
  close(ends[0]);
  return code;
}

int launch_start(launch *out, char **command, unsigned how) {
  int code = (how & LAUNCH_WATCHED) != 0 ? run_prepare_default() : CLI_OK;

  memset(out, 0, sizeof *out);
  if (code != CLI_OK) return code;
  code = launch_fork(out, command, how);
  if (code != CLI_OK) return code;
  launch_was_signalled = 0;
  launch_child = (how & LAUNCH_SHARED) != 0 ? out->pid : -out->pid;
  launch_handle_signals(true);
  out->pid_fd = (int)syscall(SYS_pidfd_open, out->pid, 0);
  return CLI_OK;
}

bool launch_wait(launch *started, int timeout_ms) {
  struct pollfd ended = {.fd = started->pid_fd, .events = POLLIN};

  if (started->is_over) return true;
  poll(&ended, 1, timeout_ms);
  started->is_over =
      wait4(started->pid, &started->status, WNOHANG, &started->usage) ==
      started->pid;
  return started->is_over;
}

static bool launch_is_published(const launch *started) {
  processes list;
  bool is_there = false;

  if (processes_read(&list, false) != CLI_OK) return false;
  for (size_t i = 0; i < list.count; i++)
    is_there |= list.item[i].header->pid == (uint32_t)started->pid;
  processes_free(&list);
  return is_there;
}

int launch_wait_published(launch *started) {
  for (int waited_ms = 0; waited_ms < LAUNCH_PUBLISH_MS; waited_ms += LAUNCH_STEP_MS) {
    if (launch_is_published(started)) return CLI_OK;
    if (launch_wait(started, LAUNCH_STEP_MS))
      return cli_fail(CLI_NOT_FOUND, "the command ended with code %d before it was "
                                     "under memguard", launch_code(started));
  }
  return cli_fail(CLI_NOT_FOUND, "the command does not come under memguard: is it a "
                                 "Python or Node program itself?");
}

void launch_end(launch *started) {
  if (!launch_wait(started, 0)) {
    kill((pid_t)launch_child, SIGTERM);
    if (!launch_wait(started, (int)(LAUNCH_END_S * 1e3))) {
      kill((pid_t)launch_child, SIGKILL);
      launch_wait(started, -1);
    }
  }
  started->signalled = launch_was_signalled != 0;
  launch_child = 0;
  launch_handle_signals(false);
  if (started->pid_fd >= 0) close(started->pid_fd);
}

int launch_code(const launch *started) {
  return WIFSIGNALED(started->status) ? 128 + WTERMSIG(started->status)
                                      : WEXITSTATUS(started->status);
}
