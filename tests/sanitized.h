/* SPDX-License-Identifier: MIT */
#ifndef TESTS_SANITIZED_H
#define TESTS_SANITIZED_H

/* SANITIZED: 1 if this build has a sanitizer that replaces malloc and makes everything slow. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer) ||                         \
    __has_feature(memory_sanitizer)
#define SANITIZED 1
#endif
#endif
#ifndef SANITIZED
#define SANITIZED 0
#endif

#endif
