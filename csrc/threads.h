// SPDX-License-Identifier: Apache-2.0
// A loop over several threads, made for one call and gone after it.

#ifndef CE_THREADS_H
#define CE_THREADS_H

#include <stddef.h>

// How many threads to use for so many pieces of work: at least 1, at most CE_MOST_THREADS.
enum { CE_MOST_THREADS = 64 };
size_t ce_threads(size_t wanted, size_t pieces);

// Split 0..count-1 into `threads` runs of about the same length and call
// work(context, thread, begin, end) for each, with thread from 0 up. The calls come at the same
// time as far as the system has threads to give. threads is what ce_threads(…, count) returned.
void ce_parallel(size_t threads, size_t count,
                 void (*work)(void *context, size_t thread, size_t begin, size_t end),
                 void *context);

#endif
