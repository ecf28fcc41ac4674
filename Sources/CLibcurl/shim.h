#pragma once
#include <curl/curl.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>

// Swift cannot call C functions with variable arguments: one inline function for each type of argument.

static inline CURLcode breakwater_set_long(CURL *easy, CURLoption option, long value) {
    return curl_easy_setopt(easy, option, value);
}

static inline CURLcode breakwater_set_offset(CURL *easy, CURLoption option, curl_off_t value) {
    return curl_easy_setopt(easy, option, value);
}

static inline CURLcode breakwater_set_string(CURL *easy, CURLoption option, const char *value) {
    return curl_easy_setopt(easy, option, value);
}

// For `void *`, `char *` and `struct curl_slist *` arguments.
static inline CURLcode breakwater_set_pointer(CURL *easy, CURLoption option, const void *value) {
    return curl_easy_setopt(easy, option, value);
}

typedef size_t (*breakwater_data_callback)(char *data, size_t size, size_t count, void *context);
typedef curl_socket_t (*breakwater_socket_callback)(void *context, curlsocktype purpose, struct curl_sockaddr *address);
typedef int (*breakwater_prerequest_callback)(
    void *context, char *remote_address, char *local_address, int remote_port, int local_port
);

static inline CURLcode breakwater_set_data_callback(CURL *easy, CURLoption option, breakwater_data_callback callback) {
    return curl_easy_setopt(easy, option, callback);
}

static inline CURLcode breakwater_set_socket_callback(CURL *easy, breakwater_socket_callback callback) {
    return curl_easy_setopt(easy, CURLOPT_OPENSOCKETFUNCTION, callback);
}

typedef int (*breakwater_close_callback)(void *context, curl_socket_t socket);

static inline CURLcode breakwater_set_close_callback(CURL *easy, breakwater_close_callback callback) {
    return curl_easy_setopt(easy, CURLOPT_CLOSESOCKETFUNCTION, callback);
}

static inline CURLcode breakwater_set_prerequest_callback(CURL *easy, breakwater_prerequest_callback callback) {
    return curl_easy_setopt(easy, CURLOPT_PREREQFUNCTION, callback);
}

static inline CURLcode breakwater_get_long(CURL *easy, CURLINFO info, long *value) {
    return curl_easy_getinfo(easy, info, value);
}

static inline CURLcode breakwater_get_pointer(CURL *easy, CURLINFO info, void **value) {
    return curl_easy_getinfo(easy, info, value);
}

static inline CURLMcode breakwater_multi_set_long(CURLM *multi, CURLMoption option, long value) {
    return curl_multi_setopt(multi, option, value);
}

typedef int (*breakwater_interest_callback)(CURL *easy, curl_socket_t socket, int interest, void *context, void *unused);
typedef int (*breakwater_timer_callback)(CURLM *multi, long milliseconds, void *context);

static inline void breakwater_multi_set_callbacks(
    CURLM *multi, breakwater_interest_callback interest, breakwater_timer_callback timer, void *context
) {
    curl_multi_setopt(multi, CURLMOPT_SOCKETFUNCTION, interest);
    curl_multi_setopt(multi, CURLMOPT_SOCKETDATA, context);
    curl_multi_setopt(multi, CURLMOPT_TIMERFUNCTION, timer);
    curl_multi_setopt(multi, CURLMOPT_TIMERDATA, context);
}

/// A socket that is ready, and for what: `CURL_CSELECT_IN`, `CURL_CSELECT_OUT` and `CURL_CSELECT_ERR`.
struct breakwater_ready_socket {
    curl_socket_t socket;
    int flags;
};

static inline int breakwater_watch_socket(int set, int operation, curl_socket_t socket, uint32_t events) {
    struct epoll_event event = {.events = events, .data = {.fd = socket}};
    return epoll_ctl(set, operation, socket, &event);
}

/// Waits for sockets of a set, and writes those that are ready, at most `count`. Returns how many; -1 with errno.
static inline int breakwater_wait_for_sockets(
    int set, struct breakwater_ready_socket sockets[], int count, int milliseconds
) {
    struct epoll_event events[64];
    int ready = epoll_wait(set, events, count < 64 ? count : 64, milliseconds);
    for (int i = 0; i < ready; i++) {
        int flags = 0;
        if (events[i].events & EPOLLIN) flags |= CURL_CSELECT_IN;
        if (events[i].events & EPOLLOUT) flags |= CURL_CSELECT_OUT;
        if (events[i].events & (EPOLLERR | EPOLLHUP)) flags |= CURL_CSELECT_ERR;
        sockets[i] = (struct breakwater_ready_socket){.socket = events[i].data.fd, .flags = flags};
    }
    return ready;
}
