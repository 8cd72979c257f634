/* SPDX-License-Identifier: Apache-2.0 */
/*
 * kvctl doctor on machines that are made of files: each check is shown a system that is well and one that is not, with
 * --root. What is looked at without files, the daemon itself, is real.
 */
#include "tests/e2e/kvctl-rig.h"

#include "tests/lib/peer.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#define MEMINFO "/proc/meminfo"
#define LIMITS "/proc/self/limits"
#define HUGE "/sys/kernel/mm/hugepages/hugepages-2048kB/"
#define THP "/sys/kernel/mm/transparent_hugepage/shmem_enabled"
#define CGROUP "/sys/fs/cgroup"

/* Writes root/PATH and the directories that it needs. */
static void put(const char *path, const char *text)
{
	char full[512];

	(void)snprintf(full, sizeof(full), "root%s", path);
	for (char *slash = strchr(full, '/'); slash; slash = strchr(slash + 1, '/')) {
		*slash = '\0';
		assert_true(mkdir(full, 0700) == 0 || errno == EEXIST);
		*slash = '/';
	}
	write_file(full, text, strlen(text), NULL, 0);
}

/* A machine on which nothing is wrong. */
static void put_good(void)
{
	put(MEMINFO, "MemTotal:       65536000 kB\nMemAvailable:   60000000 kB\nSwapTotal:             0 kB\n");
	put(LIMITS, "Limit                     Soft Limit           Hard Limit           Units     \n"
		    "Max open files            1024                 524288               files     \n"
		    "Max locked memory         unlimited            unlimited            bytes     \n");
	put(HUGE "nr_hugepages", "1024\n");
	put(HUGE "free_hugepages", "512\n");
	put(THP, "always [within_size] advise never deny force\n");
	put("/proc/self/cgroup", "0::/user.slice/shell\n");
	put(CGROUP "/cgroup.controllers", "cpu memory pids\n");
	put(CGROUP "/user.slice/memory.max", "max\n");
	put(CGROUP "/user.slice/memory.high", "max\n");
	put(CGROUP "/user.slice/shell/memory.max", "max\n");
	put("/proc/sys/kernel/io_uring_disabled", "0\n");
	put("/proc/cpuinfo", "processor\t: 0\nflags\t\t: fpu sse avx2 fma f16c\nbugs\t\t:\n");
}

/* Runs it; the finding of one check must have this level and words. */
static void expect(struct shell *shell, const char *options, int status, const char *level, const char *check,
		   const char *words)
{
	char line[512];
	char begin[64];
	const char *at;

	(void)snprintf(line, sizeof(line), "doctor --root ./root%s%s", options[0] ? " " : "", options);
	assert_int_equal(kvctl(shell, line), status);
	(void)snprintf(begin, sizeof(begin), "%-4s  %-10s  ", level, check);
	for (at = shell->out; (at = strstr(at, begin)); at++) {
		(void)snprintf(line, sizeof(line), "%.*s", (int)strcspn(at, "\n"), at);
		if (strstr(line, words))
			return;
	}
	fail_msg("no \"%s\" with \"%s\" in: %s", begin, words, shell->out);
}

static void test_well(void **state)
{
	struct shell *shell = shell_open();

	put_good();
	expect(shell, "", 0, "OK", "socket", "mode 0660");
	expect(shell, "", 0, "OK", "socket", "may connect");
	expect(shell, "", 0, "OK", "daemon", "answers");
	expect(shell, "", 0, "OK", "version", "");
	expect(shell, "", 0, "OK", "memory", "57.2 GiB of memory are available");
	expect(shell, "", 0, "INFO", "huge_pages", "arena.huge_pages=no");
	expect(shell, "", 0, "OK", "thp", "within_size");
	expect(shell, "", 0, "OK", "swap", "no swap");
	expect(shell, "", 0, "OK", "memlock", "any amount");
	expect(shell, "", 0, "OK", "cgroup", "/user.slice/shell (this one)");
	expect(shell, "", 0, "OK", "open_files", "1024 files");
	expect(shell, "", 0, "INFO", "io_uring", "allowed");
	expect(shell, "", 0, "INFO", "security", "neither");
	expect(shell, "", 0, "OK", "processor", "AVX2");
	expect(shell, "", 0, "OK", "counters", "no counter");
	assert_contains(shell->out, "failures: 0, warnings: 0\n");
	assert_int_equal(kvctl(shell, "doctor --root ./root --json"), 0);
	assert_contains(shell->out, "{\"ok\":true,\"failures\":0,\"warnings\":0,\"findings\":[{\"check\":\"socket\",");
	shell_close(shell);
}

static void test_memory(void **state)
{
	struct shell *shell = shell_open();

	put_good();
	put(MEMINFO, "MemAvailable:   1024 kB\nSwapTotal:       2097148 kB\n");
	expect(shell, "", 0, "WARN", "memory", "1.0 MiB of memory are available");
	expect(shell, "", 0, "WARN", "swap", "2.0 GiB of swap");
	put(THP, "always within_size advise [never] deny force\n");
	expect(shell, "", 0, "INFO", "thp", "shmem_enabled is never");
	put(LIMITS, "Max open files            128                  128                  files     \n"
		    "Max locked memory         8388608              8388608              bytes     \n");
	expect(shell, "", 0, "WARN", "open_files", "128 files");
	expect(shell, "", 0, "INFO", "memlock", "8.0 MiB");
	put(LIMITS, "Max open files            1024                 1024                 files     \n");
	expect(shell, "", 0, "WARN", "open_files", "about 480 sessions");
	shell_close(shell);
}

/* Without a daemon the arena is what the user says. */
static void test_without_daemon(void **state)
{
	struct shell *shell = shell_alone();

	put_good();
	expect(shell, "--socket ./none", 1, "FAIL", "socket", "there is no ./none");
	expect(shell, "--socket ./none", 1, "FAIL", "daemon", "No such file");
	expect(shell, "--socket ./none", 1, "INFO", "memory", "not known");
	expect(shell, "--socket ./none --arena-bytes 2GiB", 1, "OK", "memory", "an arena of 2.0 GiB");
	expect(shell, "--socket ./none --arena-bytes 1TiB", 1, "FAIL", "memory", "an arena of 1.0 TiB");
	expect(shell, "--socket ./none --arena-bytes 2GiB", 1, "INFO", "huge_pages", "512 unused");
	assert_contains(shell->out, "vm.nr_hugepages=1536");
	expect(shell, "--socket ./none --arena-bytes 1GiB", 1, "INFO", "huge_pages", "needs 512");
	assert_null(strstr(shell->out, "vm.nr_hugepages"));
	write_file("plain", "x", 1, NULL, 0);
	expect(shell, "--socket ./plain", 1, "FAIL", "socket", "a regular file");
	free(shell);
}

static void test_huge_pages(void **state)
{
	struct shell *shell = shell_alone();

	put_good();
	test_daemon_start(&shell->daemon, "--arena-huge-pages", "try", NULL);
	assert_int_equal(setenv("KVPAGED_SOCKET", shell->daemon.socket_path, 1), 0);
	put(HUGE "nr_hugepages", "31\n");
	put(HUGE "free_hugepages", "31\n");
	expect(shell, "", 0, "WARN", "huge_pages", "the pool has 31 pages of 2 MiB and the arena needs 32");
	assert_contains(shell->out, "sysctl vm.nr_hugepages=32");
	put(HUGE "nr_hugepages", "32\n");
	put(HUGE "free_hugepages", "0\n");
	expect(shell, "", 0, "OK", "huge_pages", "arena.huge_pages=try");
	put(MEMINFO, "MemAvailable:   60000000 kB\nSwapTotal:       2097148 kB\n");
	expect(shell, "", 0, "OK", "swap", "not swapped out");
	shell_close(shell);
}

static void test_cgroups(void **state)
{
	struct shell *shell = shell_open();

	put_good();
	put(CGROUP "/user.slice/memory.high", "33554432\n");
	expect(shell, "", 0, "WARN", "cgroup", "memory.high of the cgroup /user.slice is 32.0 MiB");
	put(CGROUP "/user.slice/memory.high", "67108864\n");
	expect(shell, "", 0, "OK", "cgroup", "leaves room");
	put(CGROUP "/user.slice/shell/memory.max", "1048576\n");
	expect(shell, "", 0, "WARN", "cgroup", "memory.max of the cgroup /user.slice/shell is 1.0 MiB");
	put(CGROUP "/system.slice/kvpaged.service/memory.max", "1048576\n");
	expect(shell, "", 1, "FAIL", "cgroup", "memory.max of the cgroup /system.slice/kvpaged.service is 1.0 MiB");
	shell_close(shell);
}

static void test_system(void **state)
{
	struct shell *shell = shell_open();

	put_good();
	put("/proc/sys/kernel/io_uring_disabled", "2\n");
	expect(shell, "", 0, "INFO", "io_uring", "switched off");
	put("/sys/fs/selinux/enforce", "1");
	expect(shell, "", 0, "INFO", "security", "SELinux is enforcing");
	put("/sys/module/apparmor/parameters/enabled", "Y\n");
	expect(shell, "", 0, "INFO", "security", "AppArmor is on");
	put("/proc/cpuinfo", "processor : 0\nflags\t\t: avx2 fma f16c avx512f avx512bw avx512vl avx512dq avx512vbmi "
			     "avx512_vnni\n");
	expect(shell, "", 0, "OK", "processor", "AVX-512");
	put("/proc/cpuinfo", "processor : 0\nflags\t\t: avx2x fma f16c avx2\n");
	expect(shell, "", 0, "OK", "processor", "AVX2");
	put("/proc/cpuinfo", "processor : 0\nflags\t\t: avx2x fma f16c\n");
	expect(shell, "", 0, "WARN", "processor", "plain C");
	put("/proc/cpuinfo", "processor\t: 0\nFeatures\t: fp asimd evtstrm\n");
	expect(shell, "", 0, "OK", "processor", "NEON");
	shell_close(shell);
}

/* A machine of which nothing can be read, and files that are not what they should be. */
static void test_unreadable(void **state)
{
	struct shell *shell = shell_open();
	char *big = malloc(200000);

	assert_non_null(big);
	assert_int_equal(mkdir("root", 0700), 0);
	expect(shell, "", 0, "OK", "daemon", "answers");
	memset(big, 'x', 199999);
	big[199999] = '\0';
	put_good();
	put(MEMINFO, big);
	put(LIMITS, "Max open files\nMax locked memory");
	put(THP, "[");
	put(HUGE "nr_hugepages", "-3");
	put("/proc/self/cgroup", big);
	put("/proc/cpuinfo", "flags");
	put(CGROUP "/cgroup.controllers", "");
	expect(shell, "", 0, "OK", "counters", "");
	free(big);
	shell_close(shell);
}

/* A connection that breaks the protocol is counted, and the counter is explained. */
static void test_counters(void **state)
{
	struct shell *shell = shell_open();
	struct test_peer peer;

	put_good();
	peer_connect(&peer, shell->daemon.socket_path);
	assert_int_equal(peer_send_bytes(&peer, "\xff\xff\xff\xff", 4), 0);
	peer_expect_end(&peer);
	peer_close(&peer);
	expect(shell, "", 0, "WARN", "counters", "violated the protocol since its start: 1 (protocol_errors_total)");
	shell_close(shell);
}

static const struct CMUnitTest tests[] = {
	cmocka_unit_test(test_well),	   cmocka_unit_test(test_memory),   cmocka_unit_test(test_without_daemon),
	cmocka_unit_test(test_huge_pages), cmocka_unit_test(test_cgroups),  cmocka_unit_test(test_system),
	cmocka_unit_test(test_unreadable), cmocka_unit_test(test_counters),
};

int main(void)
{
	return harness_run(tests, sizeof(tests) / sizeof(tests[0]));
}
