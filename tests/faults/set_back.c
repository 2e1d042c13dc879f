/* SPDX-License-Identifier: GPL-3.0-or-later
 * Copyright: (c) 2026, The metalfleet.gpustack contributors
 *
 * The time of day a year ago, preloaded into every program of a host whose clock was set back. Other clocks are as they are.
 */
#define _GNU_SOURCE
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#define BACK_SECONDS (365L * 24 * 3600)

int clock_gettime(clockid_t clock, struct timespec *now) {
  long rc = syscall(SYS_clock_gettime, clock, now);
  if (rc == 0 && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE))
    now->tv_sec -= BACK_SECONDS;
  return (int)rc;
}

int gettimeofday(struct timeval *restrict now, void *restrict zone) {
  struct timespec precise;
  (void)zone;
  if (clock_gettime(CLOCK_REALTIME, &precise) != 0)
    return -1;
  now->tv_sec = precise.tv_sec;
  now->tv_usec = precise.tv_nsec / 1000;
  return 0;
}

time_t time(time_t *kept) {
  struct timespec precise;
  clock_gettime(CLOCK_REALTIME, &precise);
  if (kept != NULL)
    *kept = precise.tv_sec;
  return precise.tv_sec;
}
