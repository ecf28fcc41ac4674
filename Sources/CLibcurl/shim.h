#pragma once
#include <curl/curl.h>

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
