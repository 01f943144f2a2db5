/* SPDX-License-Identifier: Apache-2.0 */
/* leaks.c - under AddressSanitizer libraries stay until the end, so that what one of them keeps (a
 * Vulkan driver that its loader closes) is told with the library's name (tests/sanitize/leaks.txt).
 */
#ifdef __SANITIZE_ADDRESS__
int dlclose(void *handle);

int dlclose(void *handle)
{
    (void)handle;
    return 0;
}
#else
typedef int test_leaks_empty; /* a file holds something */
#endif
