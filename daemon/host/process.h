/* SPDX-License-Identifier: Apache-2.0 */
/* What the whole process is set to before it serves. */
#pragma once

/*
 * Files are created for the owner only, writing to a closed stream is an error and no signal, and
 * the limit of open descriptors is raised as far as the system lets us. None of it can fail in a
 * way that matters.
 */
void process_prepare(void);
