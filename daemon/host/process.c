/* SPDX-License-Identifier: Apache-2.0 */
/* Called once, before any descriptor is handed out and while there is one thread. */
#include "daemon/host/process.h"

#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>

void process_prepare(void)
{
	struct rlimit files;

	(void)umask(0077);
	(void)signal(SIGPIPE, SIG_IGN);
	/*
	 * A session takes two descriptors; the usual soft limit of 1024 is there for select(),
	 * which nothing here uses.
	 */
	if (getrlimit(RLIMIT_NOFILE, &files) == 0 && files.rlim_cur < files.rlim_max) {
		files.rlim_cur = files.rlim_max;
		(void)setrlimit(RLIMIT_NOFILE, &files);
	}
}
