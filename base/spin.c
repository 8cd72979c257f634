/* SPDX-License-Identifier: Apache-2.0 */
/* When to wait awake; see spin.h. */
#include "base/spin.h"

#include "base/units.h"

#include <sched.h>

#define CREDIT_MAX 8
#define CREDIT_FOR_VAIN 4 /* so two in a row end it */

static bool has_two_processors(void)
{
	cpu_set_t allowed;

	CPU_ZERO(&allowed);
	/* More processors than the set has room for fail with EINVAL. */
	return sched_getaffinity(0, sizeof(allowed), &allowed) < 0 || CPU_COUNT(&allowed) > 1;
}

void spin_init(struct spin *spin, uint32_t limit_us)
{
	*spin = (struct spin){
		.limit_ns = limit_us > 0 && has_two_processors() ? limit_us * NS_PER_US : 0,
		.credit = CREDIT_MAX,
		.skip = SPIN_SKIP_MIN,
	};
}

bool spin_pays(struct spin *spin)
{
	if (spin->limit_ns == 0)
		return false;
	if (spin->credit > 0)
		return true;
	if (++spin->skipped < spin->skip)
		return false;
	spin->skipped = 0;
	return true;
}

void spin_note(struct spin *spin, bool came)
{
	if (came) {
		spin->credit = spin->credit < CREDIT_MAX ? spin->credit + 1 : CREDIT_MAX;
		spin->skip = SPIN_SKIP_MIN;
	} else if (spin->credit > 0) {
		spin->credit = spin->credit > CREDIT_FOR_VAIN ? spin->credit - CREDIT_FOR_VAIN : 0;
	} else if (spin->skip < SPIN_SKIP_MAX) {
		spin->skip *= 2;
	}
}
