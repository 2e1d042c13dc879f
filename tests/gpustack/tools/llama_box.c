/* SPDX-License-Identifier: GPL-3.0-or-later
 * Copyright: (c) 2026, The metalfleet.gpustack contributors
 *
 * Stand-in for llama-box. It knows
 *   --version          as the real one writes it, to standard error;
 *   --rpc-server-port  it listens there and tells everyone who connects its version, so that a test learns it from the process and not
 *                      from a file that may be another by then;
 *   --model            it starts serve_model.py, which serves real tokens, and is its end.
 * A compiled program, as the real one: a script would show its interpreter in the process table.
 */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

static pid_t child;

static const char *option(int argc, char **argv, const char *name) {
  for (int i = 1; i + 1 < argc; i++)
    if (strcmp(argv[i], name) == 0)
      return argv[i + 1];
  return NULL;
}

static void pass_on(int number) { kill(child, number); }

static int serve_model(int argc, char **argv) {
  pid_t parent = getpid();
  child = fork();
  if (child < 0) {
    perror("llama-box (stand-in)");
    return 1;
  }
  if (child == 0) {
    char **words = calloc((size_t)argc + 4, sizeof *words);
    words[0] = "/usr/bin/python3";
    words[1] = "/opt/gpustack-tools/serve_model.py";
    words[2] = VERSION;
    memcpy(words + 3, argv, (size_t)argc * sizeof *words);
    /* Whatever ends this process ends the model, too. */
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent)
      return 1;
    execv(words[0], words);
    perror(words[0]);
    return 127;
  }
  struct sigaction action = {.sa_handler = pass_on};
  sigaction(SIGTERM, &action, NULL);
  sigaction(SIGINT, &action, NULL);
  int status;
  while (waitpid(child, &status, 0) < 0)
    ;
  return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

static int serve_rpc(const char *port) {
  static const char banner[] = VERSION "\n";
  int one = 1;
  int listener = socket(AF_INET, SOCK_STREAM, 0);
  struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((unsigned short)atoi(port)), .sin_addr.s_addr = INADDR_ANY};
  setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
  if (bind(listener, (struct sockaddr *)&address, sizeof address) != 0 || listen(listener, 8) != 0) {
    perror("llama-box (stand-in)");
    return 1;
  }
  for (;;) {
    int peer = accept(listener, NULL, NULL);
    if (peer < 0)
      continue;
    /* The peer may be gone already, which must not end this process. */
    send(peer, banner, sizeof banner - 1, MSG_NOSIGNAL);
    close(peer);
  }
}

int main(int argc, char **argv) {
  for (int i = 1; i < argc; i++)
    if (strcmp(argv[i], "--version") == 0) {
      fprintf(stderr, "version    : " VERSION " (stand-in)\n");
      return 0;
    }
  /* As the real one begins its log. */
  printf("0.00.000.398 I arguments  :");
  for (int i = 0; i < argc; i++)
    printf(" %s", argv[i]);
  printf("\n0.00.000.398 I version    : " VERSION " (stand-in)\n");
  /* The log says whether GPUStack handed a residency variable on. */
  printf("GGML_METAL_NO_RESIDENCY is %s\n", getenv("GGML_METAL_NO_RESIDENCY") ? "present" : "absent");
  fflush(stdout);
  const char *port = option(argc, argv, "--rpc-server-port");
  if (port != NULL)
    return serve_rpc(port);
  if (option(argc, argv, "--model") != NULL)
    return serve_model(argc, argv);
  fprintf(stderr, "this stand-in for llama-box knows --version, --rpc-server-port and --model only\n");
  return 1;
}
