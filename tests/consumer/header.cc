// SPDX-License-Identifier: Apache-2.0
// The header in C++, with a call so that its linkage is checked too.
#include <kvclient.h>

#include <cstring>

int main()
{
	return std::strlen(kvc_version()) > 0 && kvc_close(nullptr) == nullptr ? 0 : 1;
}
