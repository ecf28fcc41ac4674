// Answers every HTTP request at once with 200, on connections that stay open, from one thread.
//
//     receiver
//
// Listens on 127.0.0.1 on a free port, which it prints, and ends with its parent. A request has a Content-Length, or no
// body.

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

static const char answer[] = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

struct connection {
    int socket;
    size_t length;
    char buffer[16384];
};

static void fail(const char *what) {
    perror(what);
    exit(1);
}

// The bytes of the first whole request in the buffer; 0 if it is not whole yet.
static size_t request_length(const struct connection *connection) {
    const char *end = memmem(connection->buffer, connection->length, "\r\n\r\n", 4);
    if (!end) return 0;
    size_t length = (size_t)(end - connection->buffer) + 4;
    for (const char *line = connection->buffer; line < end;) {
        if (!strncasecmp(line, "content-length:", 15)) length += strtoul(line + 15, NULL, 10);
        line = (const char *)memchr(line, '\n', (size_t)(end + 2 - line)) + 1;
    }
    return length <= connection->length ? length : 0;
}

// Answers the requests that have arrived. Returns 0 when the connection has ended.
static int serve(struct connection *connection) {
    ssize_t count = read(connection->socket, connection->buffer + connection->length,
                         sizeof connection->buffer - connection->length);
    if (count < 0) return errno == EAGAIN || errno == EINTR;
    if (count == 0) return 0;
    connection->length += (size_t)count;
    size_t length;
    while ((length = request_length(connection))) {
        memmove(connection->buffer, connection->buffer + length, connection->length - length);
        connection->length -= length;
        if (write(connection->socket, answer, sizeof answer - 1) != sizeof answer - 1) return 0;
    }
    return connection->length < sizeof connection->buffer;
}

static void add(int epoll, int socket, void *pointer) {
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = pointer};
    if (epoll_ctl(epoll, EPOLL_CTL_ADD, socket, &event) != 0) fail("epoll_ctl");
}

int main(void) {
    signal(SIGPIPE, SIG_IGN);
    prctl(PR_SET_PDEATHSIG, SIGTERM);
    struct rlimit files;
    if (getrlimit(RLIMIT_NOFILE, &files) == 0) {
        files.rlim_cur = files.rlim_max;
        setrlimit(RLIMIT_NOFILE, &files);
    }
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof address;
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    if (listener < 0 || bind(listener, (struct sockaddr *)&address, size) != 0 || listen(listener, 4096) != 0)
        fail("listen");
    getsockname(listener, (struct sockaddr *)&address, &size);
    printf("%d\n", ntohs(address.sin_port));
    fflush(stdout);

    int epoll = epoll_create1(0);
    if (epoll < 0) fail("epoll_create1");
    add(epoll, listener, NULL);
    for (;;) {
        struct epoll_event events[256];
        int count = epoll_wait(epoll, events, 256, -1);
        if (count < 0 && errno != EINTR) fail("epoll_wait");
        for (int index = 0; index < count; index++) {
            struct connection *connection = events[index].data.ptr;
            if (!connection) {
                int accepted = accept4(listener, NULL, NULL, SOCK_NONBLOCK);
                if (accepted < 0) continue;
                int one = 1;
                setsockopt(accepted, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
                connection = calloc(1, sizeof *connection);
                if (!connection) fail("calloc");
                connection->socket = accepted;
                add(epoll, accepted, connection);
            } else if (!serve(connection)) {
                close(connection->socket);
                free(connection);
            }
        }
    }
}
