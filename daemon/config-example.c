/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Prints the example of a configuration file: each setting with its help and its default, as comments below the
 * sections' headings. The build runs it; it is not installed.
 */
#include "daemon/config-table.h"

#include <stdio.h>
#include <string.h>

static void print_choices(const struct setting *setting)
{
	for (size_t i = 0; setting->choices[i]; i++)
		(void)printf("%s%s", i > 0 ? ", " : "# One of: ", setting->choices[i]);
	(void)puts("");
}

static void print_setting(const struct setting *setting)
{
	(void)printf("\n# %s\n", setting->help);
	if (setting->type == SETTING_CHOICE)
		print_choices(setting);
	(void)printf("#%s =%s%s\n", setting->key, setting->initial[0] ? " " : "", setting->initial);
}

int main(void)
{
	const char *section = "";

	(void)fputs("# kvpaged's settings, each with its default. Remove the # before those that you change;\n"
		    "# kvpaged --check-config tells whether they are right, kvpaged --print-config where each\n"
		    "# comes from. Files in " CONFIG_PATH_DEFAULT ".d/ win over this one, later\n"
		    "# names over earlier ones; the environment (KVPAGED_SECTION_KEY) and options win over both.\n"
		    "# Sizes: 64MiB, 1GiB. Times: 500ms, 30s, 10min, 24h. At SIGHUP only log.level takes effect.\n",
		    stdout);
	for (int i = 0; i < CONFIG_SETTINGS; i++) {
		if (strcmp(settings[i].section, section) != 0)
			(void)printf("\n[%s]\n", settings[i].section);
		section = settings[i].section;
		print_setting(&settings[i]);
	}
	return fflush(stdout) == 0 ? 0 : 1;
}
