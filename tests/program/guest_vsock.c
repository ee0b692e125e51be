/* Runs inside the guest: asks port 80 of the host over a vsock, then answers one visitor on its own port 1234. */
#include <linux/vm_sockets.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static void serve(int fd) {
  char text[64] = "guest got ";
  ssize_t n = read(fd, text + 10, sizeof text - 11);
  if (n > 0 && write(fd, text, 10 + (size_t)n) < 0) perror("write");
  close(fd);
}

int main(void) {
  struct sockaddr_vm host = {.svm_family = AF_VSOCK, .svm_cid = VMADDR_CID_HOST, .svm_port = 80};
  struct sockaddr_vm own = {.svm_family = AF_VSOCK, .svm_cid = VMADDR_CID_ANY, .svm_port = 1234};
  char text[64] = {0};
  int listener = socket(AF_VSOCK, SOCK_STREAM, 0), fd = socket(AF_VSOCK, SOCK_STREAM, 0);
  if (listener < 0 || bind(listener, (void*)&own, sizeof own) || listen(listener, 1)) return perror("listen"), 1;
  if (connect(fd, (void*)&host, sizeof host) || write(fd, "question", 8) != 8) return perror("connect"), 1;
  if (read(fd, text, sizeof text - 1) <= 0) return perror("read"), 1;
  printf("host said: %s\n", text);
  close(fd);
  host.svm_port = 81;
  fd = socket(AF_VSOCK, SOCK_STREAM, 0);
  if (connect(fd, (void*)&host, sizeof host)) printf("nobody at port 81\n");
  fflush(stdout);
  serve(accept(listener, NULL, NULL));
  return 0;
}
