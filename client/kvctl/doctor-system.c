/* SPDX-License-Identifier: Apache-2.0 */
/* Limits, security and the processor. */
#include "client/kvctl/doctor.h"

#include "base/cleanup.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#define SESSION_FDS 2 /* the daemon's, of one session: socket and event */
#define OWN_FDS 64
#define SESSIONS_DEFAULT 1024
#define CLIENT_FDS_MIN 256
#define CPUINFO_BYTES 16384

void doctor_nofile(struct doctor *doctor)
{
	static const char path[] = "/proc/self/limits";
	uint64_t soft;
	uint64_t hard;
	uint64_t wanted = SESSION_FDS * SESSIONS_DEFAULT + OWN_FDS;

	if (doctor_read_field(doctor, path, "Max open files", 0, &soft) < 0 ||
	    doctor_read_field(doctor, path, "Max open files", 1, &hard) < 0)
		return;
	if (soft < CLIENT_FDS_MIN) {
		doctor_say(doctor, DOCTOR_WARN,
			   "a program of this user may open %" PRIu64 " files, few for one with "
			   "several clients",
			   soft);
		doctor_remedy(doctor, "ulimit -n 1024, or LimitNOFILE= in its unit");
	} else if (hard < wanted) {
		doctor_say(doctor, DOCTOR_WARN,
			   "a kvpaged started from here could open %" PRIu64 " files, enough for about %" PRIu64
			   " sessions",
			   hard, hard > OWN_FDS ? (hard - OWN_FDS) / SESSION_FDS : 0);
		doctor_remedy(doctor, "LimitNOFILE=%" PRIu64 " in its unit, or a lower limits.sessions", wanted);
	} else {
		doctor_say(doctor, DOCTOR_OK,
			   "programs of this user may open %" PRIu64 " files, a kvpaged started from "
			   "here enough for its sessions",
			   soft);
	}
}

/* Whether a program started from here may use it: asked with arguments that it refuses. */
static const char *io_uring_outcome(void)
{
	if (syscall(SYS_io_uring_setup, 0, NULL) >= 0)
		return "available";
	switch (errno) {
	case EPERM:
	case EACCES:
		return "refused here (by the setting, or by seccomp as containers do)";
	case ENOSYS:
		return "not there (the kernel lacks it, or seccomp hides it)";
	default:
		return "available";
	}
}

void doctor_io_uring(struct doctor *doctor)
{
	static const char *const meanings[] = { "allowed", "for privileged users only", "switched off" };
	uint64_t disabled;
	const char *setting = "unrestricted";

	if (doctor_read_u64(doctor, "/proc/sys/kernel/io_uring_disabled", &disabled) == 0)
		setting = disabled < 3 ? meanings[disabled] : "set to an unknown value";
	if (doctor->root[0] != '\0')
		doctor_say(doctor, DOCTOR_INFO, "io_uring is %s by kernel.io_uring_disabled", setting);
	else
		doctor_say(doctor, DOCTOR_INFO,
			   "io_uring is %s by kernel.io_uring_disabled and %s; without it kvpaged's threads read and "
			   "write files",
			   setting, io_uring_outcome());
}

void doctor_lsm(struct doctor *doctor)
{
	char text[256];
	uint64_t enforcing;
	bool any = false;

	if (doctor_read_u64(doctor, "/sys/fs/selinux/enforce", &enforcing) == 0) {
		any = true;
		doctor_say(doctor, DOCTOR_INFO, "SELinux is %s", enforcing ? "enforcing" : "permissive");
		if (enforcing)
			doctor_remedy(doctor, "if connecting or descriptors are refused: ausearch -m avc -ts recent");
	}
	if (doctor_read(doctor, "/sys/module/apparmor/parameters/enabled", text, sizeof(text)) == 0 && text[0] == 'Y') {
		any = true;
		doctor_say(doctor, DOCTOR_INFO, "AppArmor is on");
		doctor_remedy(doctor, "if connecting or descriptors are refused: journalctl -k | grep apparmor");
	}
	if (!any)
		doctor_say(doctor, DOCTOR_INFO, "neither SELinux nor AppArmor is on");
}

/* Whether the line of features has all these words. */
static bool has_features(const char *features, const char *const *wanted)
{
	for (; *wanted; wanted++) {
		const char *at = features;
		size_t n = strlen(*wanted);

		while ((at = strstr(at, *wanted)) && !(at[-1] == ' ' && (at[n] == ' ' || at[n] == '\0')))
			at += n;
		if (!at)
			return false;
	}
	return true;
}

/* As codec/isa-*.c choose. */
static const struct {
	const char *kernels;
	const char *features[10];
} kernels[] = {
	{ "AVX-512",
	  { "avx2", "fma", "f16c", "avx512f", "avx512bw", "avx512vl", "avx512dq", "avx512vbmi", "avx512_vnni", NULL } },
	{ "AVX2", { "avx2", "fma", "f16c", NULL } },
	{ "NEON", { "asimd", NULL } },
};

void doctor_cpu(struct doctor *doctor)
{
	_cleanup_free_ char *text = malloc(CPUINFO_BYTES);
	char *features;

	if (!text || doctor_read(doctor, "/proc/cpuinfo", text, CPUINFO_BYTES) < 0)
		return;
	features = strstr(text, "\nflags");
	if (!features)
		features = strstr(text, "\nFeatures");
	if (!features || !(features = strchr(features, ':')))
		return;
	features[strcspn(features, "\n")] = '\0';
	for (size_t i = 0; i < sizeof(kernels) / sizeof(kernels[0]); i++) {
		if (!has_features(features, kernels[i].features))
			continue;
		doctor_say(doctor, DOCTOR_OK, "the codecs run their %s kernels on this processor", kernels[i].kernels);
		return;
	}
	doctor_say(doctor, DOCTOR_WARN, "the codecs run in plain C on this processor, which is slower");
	doctor_remedy(doctor, "use a processor with AVX2 or NEON, or let the virtual machine see them (-cpu host)");
}
