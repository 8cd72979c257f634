/* SPDX-License-Identifier: Apache-2.0 */
/* Staying awake between requests; see vigil.h. */
#include "daemon/host/vigil.h"

static void vigil_end(struct vigil *vigil, bool came)
{
	spin_note(&vigil->spin, came);
	(void)uv_idle_stop(&vigil->idle);
}

static void on_idle(uv_idle_t *idle)
{
	struct vigil *vigil = idle->data;

	if (uv_hrtime() >= vigil->until_ns)
		vigil_end(vigil, false);
}

void vigil_init(struct vigil *vigil, uv_loop_t *loop, uint32_t spin_us)
{
	(void)uv_idle_init(loop, &vigil->idle);
	vigil->idle.data = vigil;
	spin_init(&vigil->spin, spin_us);
}

void vigil_note(struct vigil *vigil)
{
	if (!vigil->came && uv_is_active((const uv_handle_t *)&vigil->idle))
		vigil_end(vigil, true);
	vigil->came = true;
}

void vigil_pardon(struct vigil *vigil)
{
	vigil->until_ns = uv_hrtime() + vigil->spin.limit_ns;
}

void vigil_begin(struct vigil *vigil)
{
	if (!vigil->came)
		return;
	vigil->came = false;
	if (!spin_pays(&vigil->spin))
		return;
	vigil->until_ns = uv_hrtime() + vigil->spin.limit_ns;
	(void)uv_idle_start(&vigil->idle, on_idle);
}
