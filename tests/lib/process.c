/* SPDX-License-Identifier: Apache-2.0 */
/* Output is collected in memfds, which never block the writer. */
#include "tests/lib/process.h"

#include "base/cleanup.h"
#include "tests/lib/harness.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/pidfd.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#define RUN_LIMIT_MS 50000

static void become(char *const argv[], pid_t parent, int stdout_fd, int stderr_fd)
{
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);

	(void)prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (null < 0 || getppid() != parent || dup2(null, STDIN_FILENO) < 0 ||
	    dup2(stdout_fd < 0 ? null : stdout_fd, STDOUT_FILENO) < 0 ||
	    dup2(stderr_fd < 0 ? null : stderr_fd, STDERR_FILENO) < 0)
		_exit(127);
	(void)execv(argv[0], argv);
	_exit(127);
}

pid_t process_start(char *const argv[], int stdout_fd, int stderr_fd)
{
	pid_t parent = getpid();
	pid_t pid = fork();

	if (pid < 0)
		fail_msg("fork: %s", strerror(errno));
	if (pid == 0)
		become(argv, parent, stdout_fd, stderr_fd);
	return pid;
}

int process_wait(pid_t pid, unsigned limit_ms)
{
	struct pollfd event = { .fd = pidfd_open(pid, 0), .events = POLLIN };
	int status = 0;
	int ready;

	if (event.fd < 0)
		fail_msg("pidfd_open(%d): %s", (int)pid, strerror(errno));
	do
		ready = poll(&event, 1, (int)limit_ms);
	while (ready < 0 && errno == EINTR);
	(void)close(event.fd);
	if (ready == 0)
		(void)kill(pid, SIGKILL);
	while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	if (ready == 0)
		fail_msg("process %d did not end within %u ms", (int)pid, limit_ms);
	return status;
}

static void read_back(int fd, char *buffer, size_t size)
{
	ssize_t n;

	if (!buffer)
		return;
	n = pread(fd, buffer, size - 1, 0);
	buffer[n > 0 ? n : 0] = '\0';
}

int process_run(char *const argv[], char *out, size_t out_size, char *err, size_t err_size)
{
	_cleanup_close_ int out_fd = memfd_create("stdout", MFD_CLOEXEC);
	_cleanup_close_ int err_fd = memfd_create("stderr", MFD_CLOEXEC);
	int status;

	if (out_fd < 0 || err_fd < 0)
		fail_msg("memfd_create: %s", strerror(errno));
	status = process_wait(process_start(argv, out_fd, err_fd), RUN_LIMIT_MS);
	read_back(out_fd, out, out_size);
	read_back(err_fd, err, err_size);
	if (!WIFEXITED(status))
		fail_msg("%s was killed by signal %d", argv[0], WTERMSIG(status));
	if (WEXITSTATUS(status) == 127)
		fail_msg("%s could not be started", argv[0]);
	return WEXITSTATUS(status);
}
