/* The yardstick: one thread, epoll_wait(2), the echo of the contract and nothing else.
 *
 * usage: yardstick DESCRIPTOR   (of a socket that listens and does not block, inherited)
 *
 * Nearly all of its cost per answer is the kernel's; what a model costs beyond that is the model's own. It waits as
 * epoll_loop does: level-triggered, one recv(2) for each readiness. An unexpected error ends it, with a message.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

enum { BUFFER_BYTES = 65536, EVENTS = 512 };

struct connection {
    int fd;
    char *owed; /* what the kernel has not taken yet, from `begin` to `end`; NULL: nothing */
    size_t begin, end;
};

static int poller;

static void die(const char *what) {
    perror(what);
    exit(1);
}

static void watch(int operation, struct connection *c, unsigned events) {
    struct epoll_event event = {.events = events, .data.ptr = c};
    if (epoll_ctl(poller, operation, c->fd, &event)) die("epoll_ctl");
}

static void finish(struct connection *c) {
    close(c->fd);
    free(c->owed);
    free(c);
}

/* The number of bytes that the kernel took; -1: the connection is lost. */
static ssize_t give(int fd, const char *bytes, size_t count) {
    ssize_t sent = send(fd, bytes, count, MSG_NOSIGNAL);
    return sent < 0 && errno == EAGAIN ? 0 : sent;
}

static void receive(struct connection *c) {
    static char buffer[BUFFER_BYTES];
    ssize_t count = recv(c->fd, buffer, sizeof buffer, 0);
    if (count < 0 && errno == EAGAIN) return;
    if (count <= 0) return finish(c);
    for (ssize_t i = 0; i < count; i++) buffer[i] -= (unsigned char)(buffer[i] - 'a') < 26 ? 'a' - 'A' : 0;
    ssize_t sent = give(c->fd, buffer, count);
    if (sent < 0) return finish(c);
    if (sent == count) return;
    c->begin = 0; /* Nothing more is read until the rest is gone. */
    c->end = count - sent;
    if (!(c->owed = malloc(c->end))) die("malloc");
    memcpy(c->owed, buffer + sent, c->end);
    watch(EPOLL_CTL_MOD, c, EPOLLOUT);
}

static void flush(struct connection *c) {
    ssize_t sent = give(c->fd, c->owed + c->begin, c->end - c->begin);
    if (sent < 0) return finish(c);
    if ((c->begin += sent) < c->end) return;
    free(c->owed);
    c->owed = NULL;
    watch(EPOLL_CTL_MOD, c, EPOLLIN);
}

int main(int argc, char **argv) {
    struct connection listener = {.fd = argc == 2 ? atoi(argv[1]) : -1};
    struct epoll_event events[EVENTS];
    if ((poller = epoll_create1(EPOLL_CLOEXEC)) < 0) die("epoll_create1");
    watch(EPOLL_CTL_ADD, &listener, EPOLLIN);
    prctl(PR_SET_PDEATHSIG, SIGKILL); /* It ends with the process that started it. */
    for (;;) {
        int ready = epoll_wait(poller, events, EVENTS, -1);
        if (ready < 0 && errno != EINTR) die("epoll_wait");
        for (int i = 0; i < ready; i++) {
            struct connection *c = events[i].data.ptr;
            if (c != &listener) {
                c->owed ? flush(c) : receive(c);
                continue;
            }
            int fd = accept4(listener.fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
            if (fd >= 0) {
                if (!(c = calloc(1, sizeof *c))) die("calloc");
                c->fd = fd;
                watch(EPOLL_CTL_ADD, c, EPOLLIN);
            } else if (errno != EAGAIN && errno != ECONNABORTED) die("accept4");
        }
    }
}
