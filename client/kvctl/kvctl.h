/* SPDX-License-Identifier: Apache-2.0 */
/*
 * kvctl: one verb a file, each described by one struct verb from which parsing, checking and help are made.
 *
 * A run is: options and operands are parsed into the verb's own struct, the verb opens the client when it needs one,
 * prints data on stdout and talk on stderr, and returns an exit status. Whatever comes from the daemon or from users is
 * made printable before it reaches a terminal (output.h).
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "client/kvclient.h"
#include "client/kvctl/options.h"

/* Exit statuses; the numbers are an interface. */
enum ctl_exit {
	CTL_OK = 0,
	CTL_FAILED = 1,	      /* the operation failed */
	CTL_USAGE = 2,	      /* the command line is wrong; nothing was done */
	CTL_NOT_FOUND = 3,    /* no such space or block */
	CTL_PERMISSION = 4,   /* not allowed */
	CTL_UNREACHABLE = 69, /* no daemon answers at the socket */
	CTL_TRY_AGAIN = 75,   /* busy, full, stopping or timed out */
	CTL_CONFIG = 78,      /* the environment or the daemon's configuration is wrong */
};

/* What every verb understands, and the connection. */
struct ctl {
	const char *socket_path; /* NULL: the library's choice */
	uint64_t timeout_ms;	 /* 0: the library's default */
	bool json;
	bool help;
	bool version;
	kvc_client *client; /* NULL until ctl_open() */
};

struct verb {
	const char *name;
	const char *operands; /* as help shows them; "" for none */
	const char *summary;  /* one line */
	const char *details;  /* further lines, or NULL */
	size_t operands_min;
	size_t operands_max;
	const struct option_spec *options; /* ends with a zeroed one; NULL: none of its own */
	size_t args_bytes;		   /* of the struct that options write to; it is zeroed before */
	int (*run)(struct ctl *ctl, const void *args, char **operands, size_t n);
};

extern const struct verb verb_bench;
extern const struct verb verb_completion;
extern const struct verb verb_config;
extern const struct verb verb_doctor;
extern const struct verb verb_events;
extern const struct verb verb_evict;
extern const struct verb verb_get;
extern const struct verb verb_health;
extern const struct verb verb_help;
extern const struct verb verb_ls;
extern const struct verb verb_put;
extern const struct verb verb_resize;
extern const struct verb verb_rm;
extern const struct verb verb_spaces;
extern const struct verb verb_stats;
extern const struct verb verb_status;
extern const struct verb verb_top;
extern const struct verb verb_why;

/* The options of every verb; they write to struct ctl. */
extern const struct option_spec ctl_options[];

/* The verb of this name, or NULL. */
const struct verb *verb_find(const char *name);

/* The verbs in the order of the help, or NULL behind the last. */
const struct verb *verb_at(size_t i);

/* Help on stdout: of everything, or of one verb. */
void help_all(void);
void help_verb(const struct verb *verb);

/* Connects; on failure says why. flags as in struct kvc_options. Returns CTL_OK or the exit status. */
int ctl_open(struct ctl *ctl, uint32_t flags);

/*
 * The same with more said: struct_bytes, the path, the name and the time are filled in here. options->timeout_ms is
 * what holds without --timeout (0: the library's default).
 */
int ctl_open_with(struct ctl *ctl, const struct kvc_options *options);

/* Where the daemon is looked for. */
const char *ctl_socket_path(const struct ctl *ctl);

/* Opens a space that is there; on failure says why. Returns CTL_OK and the space, or the exit status. */
int ctl_space(struct ctl *ctl, const char *name, kvc_space **ret_space);

/* The exit status for a result of the library. */
int ctl_exit_of(int result);

/*
 * Says on stderr that doing failed with this result of the library, in the client's words where it has some. Its exit
 * status.
 */
int ctl_fail(struct ctl *ctl, const char *doing, int result);

/*
 * Takes the daemon's statistics and prints them: with json, or with text, whose exit status is then the result.
 * The client must be open.
 */
int ctl_show_stats(struct ctl *ctl, const char *doing, void (*json)(const struct kvc_stats *),
		   int (*text)(const struct kvc_stats *));

/* Says on stderr what is wrong with the command line. Returns CTL_USAGE. */
__attribute__((format(printf, 1, 2))) int ctl_usage(const char *format, ...);

/* Says on stderr what went wrong. Returns CTL_FAILED. */
__attribute__((format(printf, 1, 2))) int ctl_error(const char *format, ...);
