/* SPDX-License-Identifier: MIT */
/* The test program. CK_RUN_SUITE, CK_RUN_CASE, CK_EXCLUDE_TAGS and CK_FORK choose, as Check
 * says. */
#include "device.h"
#include "suites.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>

int main(void)
{
#define SUITE_ENTRY(name) name##_suite,
    static struct Suite *(*const suites[])(void) = {SUITES(SUITE_ENTRY)};
    SRunner *runner = srunner_create(NULL);
    int run, failed;

    if (!device_choose())
        return EXIT_FAILURE;
    for (size_t i = 0; i < sizeof suites / sizeof suites[0]; i++)
        srunner_add_suite(runner, suites[i]());
    srunner_run_all(runner, CK_ENV);
    run = srunner_ntests_run(runner);
    failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    if (run == 0)
        fprintf(stderr, "no test was run: is there a suite of that name?\n");
    return run > 0 && failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
