/* Closed-loop load from one core: each connection has one message in flight, and every reply is compared.
 *
 * usage: generator PORT CONNECTIONS BYTES SECONDS
 * prints: replies seconds wrong
 * A reference for what a generator can ask of a server, not the client of the project.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

struct connection {
    int fd;
    size_t sent, received;
};

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec + t.tv_nsec / 1e9;
}

static void die(const char *what) {
    perror(what);
    exit(1);
}

int main(int argc, char **argv) {
    if (argc != 5) {
        fprintf(stderr, "usage: generator PORT CONNECTIONS BYTES SECONDS\n");
        return 2;
    }
    int count = atoi(argv[2]);
    size_t size = strtoul(argv[3], NULL, 10);
    double seconds = atof(argv[4]);
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(atoi(argv[1]))};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);

    char *message = malloc(size), *expected = malloc(size), *buffer = malloc(1 << 18);
    for (size_t i = 0; i < size; i++) {
        message[i] = (char)(i * 7 + 'a');
        expected[i] = message[i] >= 'a' && message[i] <= 'z' ? message[i] - 32 : message[i];
    }
    struct connection *connections = calloc(count, sizeof *connections);
    int poller = epoll_create1(0), one = 1;
    for (int i = 0; i < count; i++) {
        struct connection *c = &connections[i];
        c->fd = socket(AF_INET, SOCK_STREAM, 0);
        if (connect(c->fd, (struct sockaddr *)&address, sizeof address)) die("connect");
        setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
        fcntl(c->fd, F_SETFL, O_NONBLOCK);
        struct epoll_event event = {.events = EPOLLIN | EPOLLOUT | EPOLLET, .data.ptr = c};
        epoll_ctl(poller, EPOLL_CTL_ADD, c->fd, &event);
    }
    struct epoll_event events[512];
    long replies = 0, wrong = 0;
    double start = now(), end = start + seconds;
    while (now() < end) {
        int ready = epoll_wait(poller, events, 512, 100);
        for (int i = 0; i < ready; i++) {
            struct connection *c = events[i].data.ptr;
            for (;;) {
                ssize_t n = 0;
                if (c->sent < size) {
                    n = send(c->fd, message + c->sent, size - c->sent, MSG_NOSIGNAL);
                    if (n < 0 && errno != EAGAIN) die("send");
                    if (n > 0) c->sent += n;
                }
                size_t rest = size - c->received;
                ssize_t m = recv(c->fd, buffer, rest < (1 << 18) ? rest : (1 << 18), 0);
                if (m == 0) die("closed");
                if (m < 0 && errno != EAGAIN) die("recv");
                if (m > 0) {
                    wrong += memcmp(buffer, expected + c->received, m) != 0;
                    c->received += m;
                }
                if (c->received == size) {
                    c->sent = c->received = 0;
                    replies++;
                    ssize_t k = send(c->fd, message, size, MSG_NOSIGNAL);
                    if (k > 0) c->sent = k;
                    if (size <= 16384) break;
                } else if (n <= 0 && m <= 0) {
                    break;
                }
            }
        }
    }
    printf("%ld %.6f %ld\n", replies, now() - start, wrong);
    return wrong != 0;
}
