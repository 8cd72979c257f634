/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Log lines: their form, that no text breaks out of its line, and the limit on lines that clients
 * cause.
 */
#include "tests/lib/harness.h"

#include "base/units.h"
#include "daemon/host/log.h"

#include <poll.h>
#include <string.h>
#include <unistd.h>

static char text[8192];

/* What was written since the last call. */
static const char *written(int fd)
{
	struct pollfd ready = { .fd = fd, .events = POLLIN };
	ssize_t n = poll(&ready, 1, 0) == 1 ? read(fd, text, sizeof(text) - 1) : 0;

	text[n > 0 ? n : 0] = '\0';
	return text;
}

static void open_log(struct log *log, int ends[2], enum log_level level)
{
	assert_int_equal(pipe(ends), 0);
	log_init(log, ends[1], level);
}

static void close_log(int ends[2])
{
	(void)close(ends[0]);
	(void)close(ends[1]);
}

static void test_levels(void **state)
{
	struct log log;
	int ends[2];

	open_log(&log, ends, LOG_LEVEL_WARNING);
	log_line(&log, LOG_LEVEL_ERROR, "a %d", 1);
	log_line(&log, LOG_LEVEL_WARNING, "b");
	log_line(&log, LOG_LEVEL_INFO, "c");
	assert_string_equal(written(ends[0]), "<3>a 1\n<4>b\n");
	log.terminal = true;
	log.level = LOG_LEVEL_DEBUG;
	log_line(&log, LOG_LEVEL_ERROR, "a");
	log_line(&log, LOG_LEVEL_INFO, "c");
	assert_string_equal(written(ends[0]), "kvpaged: error: a\nkvpaged: c\n");
	close_log(ends);
}

static void test_hostile_text(void **state)
{
	char longest[5000];
	struct log log;
	int ends[2];

	open_log(&log, ends, LOG_LEVEL_INFO);
	log_line(&log, LOG_LEVEL_INFO, "name %s", "x\n<0>fake\x1b[2J\x7f\xc3\xa4");
	assert_string_equal(written(ends[0]), "<6>name x\\x0a<0>fake\\x1b[2J\\x7f\\xc3\\xa4\n");
	memset(longest, '\n', sizeof(longest) - 1);
	longest[sizeof(longest) - 1] = '\0';
	log_line(&log, LOG_LEVEL_INFO, "%s", longest);
	(void)written(ends[0]);
	assert_true(strlen(text) < 2100);
	assert_ptr_equal(strchr(text, '\n'), text + strlen(text) - 1);
	close_log(ends);
}

static unsigned count_lines(const char *lines)
{
	unsigned n = 0;

	for (; *lines; lines++)
		n += *lines == '\n';
	return n;
}

static void test_client_lines(void **state)
{
	uint64_t now_ns = 100 * NS_PER_S;
	struct log log;
	int ends[2];

	open_log(&log, ends, LOG_LEVEL_INFO);
	for (int i = 0; i < 1000; i++)
		log_client(&log, now_ns + (uint64_t)i, MESSAGE_CLIENT_FAULT, NULL, "fault");
	assert_int_equal(count_lines(written(ends[0])), LOG_CLIENT_LINES_MAX);
	log_client(&log, now_ns + NS_PER_S, MESSAGE_CLIENT_FAULT, NULL, "fault");
	assert_string_equal(written(ends[0]),
			    "<4>990 more lines about clients were left out\n<4>fault\n");
	log_left_out(&log);
	assert_string_equal(written(ends[0]), "");
	close_log(ends);
}

static const struct CMUnitTest tests[] = {
	cmocka_unit_test(test_levels),
	cmocka_unit_test(test_hostile_text),
	cmocka_unit_test(test_client_lines),
};

int main(void)
{
	return harness_run(tests, sizeof(tests) / sizeof(tests[0]));
}
