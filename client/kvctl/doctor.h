/* SPDX-License-Identifier: Apache-2.0 */
/*
 * kvctl doctor's checks. Each is a function that looks at one thing and adds findings; none needs another to have run,
 * and all but those of the daemon's own numbers work when no daemon answers. Files of /proc and /sys are read below
 * root, so that a test can show another machine.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "client/kvclient.h"

#define DOCTOR_TEXT_BYTES 512
#define DOCTOR_FINDINGS_MAX 128

enum doctor_level {
	DOCTOR_OK,   /* looked at, nothing wrong */
	DOCTOR_INFO, /* good to know */
	DOCTOR_WARN, /* works, but not well, or not for long */
	DOCTOR_FAIL, /* does not work */
	DOCTOR_LEVELS,
};

struct doctor_finding {
	const char *check;
	enum doctor_level level;
	char text[DOCTOR_TEXT_BYTES];
	char remedy[DOCTOR_TEXT_BYTES]; /* "": none is needed */
};

struct doctor {
	const char *socket_path;
	const char *root;     /* "": this machine */
	uint64_t arena_bytes; /* of the daemon, or as somebody wants it to be; 0: not known */
	int opened;	      /* the result of kvc_open() */
	char why[DOCTOR_TEXT_BYTES];
	struct kvc_info info;		/* of the following, when opened is KVC_OK */
	struct kvc_stats *stats;	/* NULL: not answered */
	struct kvc_config_item *config; /* NULL: not answered */
	size_t n_config;
	const char *check; /* that runs */
	struct doctor_finding *findings;
	size_t n;
};

/* Adds a finding of the check that runs. */
__attribute__((format(printf, 3, 4))) void doctor_say(struct doctor *doctor, enum doctor_level level,
						      const char *format, ...);

/* What to do about the last finding. */
__attribute__((format(printf, 2, 3))) void doctor_remedy(struct doctor *doctor, const char *format, ...);

/* The value of a setting of the running daemon, or NULL. */
const char *doctor_setting(const struct doctor *doctor, const char *key);

/* Reads a whole small file below root, without the newline at its end, cut at size. Results: 0; negative errno. */
int doctor_read(const struct doctor *doctor, const char *path, char *buffer, size_t size);

/* Reads a file that holds one number ("max": UINT64_MAX). The same results, and -EINVAL. */
int doctor_read_u64(const struct doctor *doctor, const char *path, uint64_t *ret_value);

/*
 * The number behind name in a file of lines "name   number ..." such as /proc/meminfo or /proc/self/limits
 * ("unlimited": UINT64_MAX). 0; -ENOENT (no such line); other negative errno.
 */
int doctor_read_field(const struct doctor *doctor, const char *path, const char *name, unsigned column,
		      uint64_t *ret_value);

/* The checks. */
void doctor_socket(struct doctor *doctor);
void doctor_daemon(struct doctor *doctor);
void doctor_version(struct doctor *doctor);
void doctor_memory(struct doctor *doctor);
void doctor_huge_pages(struct doctor *doctor);
void doctor_thp(struct doctor *doctor);
void doctor_swap(struct doctor *doctor);
void doctor_memlock(struct doctor *doctor);
void doctor_cgroup(struct doctor *doctor);
void doctor_nofile(struct doctor *doctor);
void doctor_io_uring(struct doctor *doctor);
void doctor_lsm(struct doctor *doctor);
void doctor_cpu(struct doctor *doctor);
void doctor_counters(struct doctor *doctor);
