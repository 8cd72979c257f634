/* SPDX-License-Identifier: Apache-2.0 */
/* See stumble.h. A timer's signal to the one thread, and a handler that sleeps. */
#include "tests/lib/stumble.h"

#include <errno.h>
#include <signal.h>
#include <unistd.h>

#ifndef sigev_notify_thread_id
#define sigev_notify_thread_id _sigev_un._tid
#endif

static _Thread_local volatile sig_atomic_t happened;
static _Thread_local volatile long sleeps_ns;

static void fall_asleep(int number)
{
	const struct timespec pause = { .tv_nsec = sleeps_ns };
	int before = errno;

	(void)number;
	happened = 1;
	(void)nanosleep(&pause, NULL);
	errno = before;
}

bool stumble_begin(struct stumble *stumble)
{
	struct sigaction action = { .sa_handler = fall_asleep, .sa_flags = SA_RESTART };
	struct sigevent event = { .sigev_notify = SIGEV_THREAD_ID, .sigev_signo = SIGUSR2 };

	event.sigev_notify_thread_id = gettid();
	return sigaction(SIGUSR2, &action, NULL) == 0 && timer_create(CLOCK_MONOTONIC, &event, &stumble->timer) == 0;
}

void stumble_end(struct stumble *stumble)
{
	(void)timer_delete(stumble->timer);
}

void stumble_arm(struct stumble *stumble, uint32_t after_ns, uint32_t sleep_ns)
{
	const struct itimerspec once = { .it_value.tv_nsec = after_ns };

	happened = 0;
	sleeps_ns = sleep_ns;
	if (timer_settime(stumble->timer, 0, &once, NULL) < 0)
		happened = 1;
}

bool stumble_happened(void)
{
	return happened != 0;
}
