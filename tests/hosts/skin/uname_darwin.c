/* SPDX-License-Identifier: GPL-3.0-or-later
 * Copyright: (c) 2026, The metalfleet.gpustack contributors
 *
 * uname(2) of a simulated Mac, preloaded into every program: sysname, release, machine and version are the four lines of
 * /.sim/uname. Inside a job of launchd that file is covered by an empty one, and REAL_UNAME says the same for one process:
 * a real GPUStack runs there, and its dependency truststore would look for Apple's Security library on "Darwin".
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <unistd.h>

static void take_line(char **rest, char *field, size_t size) {
  size_t length = strcspn(*rest, "\n");
  size_t kept = length < size ? length : size - 1;
  memcpy(field, *rest, kept);
  field[kept] = 0;
  *rest += length + ((*rest)[length] == '\n');
}

int uname(struct utsname *name) {
  char text[512];
  char *rest = text;
  long rc = syscall(SYS_uname, name);
  if (rc != 0 || getenv("REAL_UNAME") != NULL)
    return (int)rc;
  int file = open("/.sim/uname", O_RDONLY | O_CLOEXEC);
  if (file < 0)
    return 0;
  ssize_t length = read(file, text, sizeof text - 1);
  close(file);
  if (length <= 0)
    return 0;
  text[length] = 0;
  take_line(&rest, name->sysname, sizeof name->sysname);
  take_line(&rest, name->release, sizeof name->release);
  take_line(&rest, name->machine, sizeof name->machine);
  take_line(&rest, name->version, sizeof name->version);
  return 0;
}
