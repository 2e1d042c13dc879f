/* SPDX-License-Identifier: GPL-3.0-or-later
 * Copyright: (c) 2026, The metalfleet.gpustack contributors
 *
 * Stand-in for llama-box. It knows --version, as the real one writes it (to standard error), and --rpc-server-port: it
 * listens there and tells everyone who connects its version, so that a test learns it from the process and not from a file that
 * may be another by then. A compiled program, as the real one: a script would show its interpreter in the process table.
 */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static const char *option(int argc, char **argv, const char *name) {
  for (int i = 1; i + 1 < argc; i++)
    if (strcmp(argv[i], name) == 0)
      return argv[i + 1];
  return NULL;
}

int main(int argc, char **argv) {
  static const char banner[] = VERSION "\n";
  for (int i = 1; i < argc; i++)
    if (strcmp(argv[i], "--version") == 0) {
      fprintf(stderr, "version    : " VERSION " (stand-in)\n");
      return 0;
    }
  const char *port = option(argc, argv, "--rpc-server-port");
  if (port == NULL) {
    fprintf(stderr, "this stand-in for llama-box knows --version and --rpc-server-port only\n");
    return 1;
  }
  int one = 1;
  int listener = socket(AF_INET, SOCK_STREAM, 0);
  struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((unsigned short)atoi(port)), .sin_addr.s_addr = INADDR_ANY};
  setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
  if (bind(listener, (struct sockaddr *)&address, sizeof address) != 0 || listen(listener, 8) != 0) {
    perror("llama-box (stand-in)");
    return 1;
  }
  /* The log says whether GPUStack handed a residency variable on. */
  printf("llama-box " VERSION " (stand-in), GGML_METAL_NO_RESIDENCY is %s\n", getenv("GGML_METAL_NO_RESIDENCY") ? "present" : "absent");
  fflush(stdout);
  for (;;) {
    int peer = accept(listener, NULL, NULL);
    if (peer < 0)
      continue;
    /* The peer may be gone already, which must not end this process. */
    send(peer, banner, sizeof banner - 1, MSG_NOSIGNAL);
    close(peer);
  }
}
