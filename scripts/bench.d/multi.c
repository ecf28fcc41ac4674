// What libcurl's multi interface delivers in a bare loop: POST requests to one URL, some at a time.
//
//     multi URL BODY REQUESTS CONCURRENCY [HEADER...]
//
// A request has the headers that are given, and a timeout if any is.
//
// Prints the requests a second. Every answer must have the status 200.

#include <curl/curl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static size_t discard(char *data, size_t size, size_t count, void *unused) {
    (void)data, (void)unused;
    return size * count;
}

static double now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + (double)time.tv_nsec / 1e9;
}

int main(int count, char **arguments) {
    if (count < 5) {
        fprintf(stderr, "usage: multi URL BODY REQUESTS CONCURRENCY [HEADER...]\n");
        return 64;
    }
    long requests = atol(arguments[3]), concurrency = atol(arguments[4]), begun = 0, ended = 0;
    curl_global_init(CURL_GLOBAL_DEFAULT);
    CURLM *multi = curl_multi_init();
    curl_multi_setopt(multi, CURLMOPT_MAXCONNECTS, concurrency);
    struct curl_slist *headers = curl_slist_append(NULL, "Content-Type: application/json");
    for (int i = 5; i < count; i++) headers = curl_slist_append(headers, arguments[i]);
    double start = now();
    for (; begun < concurrency && begun < requests; begun++) {
        CURL *easy = curl_easy_init();
        curl_easy_setopt(easy, CURLOPT_URL, arguments[1]);
        curl_easy_setopt(easy, CURLOPT_POSTFIELDS, arguments[2]);
        curl_easy_setopt(easy, CURLOPT_HTTPHEADER, headers);
        curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, discard);
        curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
        if (count > 5) curl_easy_setopt(easy, CURLOPT_TIMEOUT_MS, 60000L);
        curl_multi_add_handle(multi, easy);
    }
    while (ended < requests) {
        int running, left;
        if (curl_multi_perform(multi, &running) != CURLM_OK) return 1;
        for (CURLMsg *message; (message = curl_multi_info_read(multi, &left));) {
            if (message->msg != CURLMSG_DONE) continue;
            CURL *easy = message->easy_handle;
            long status = 0;
            curl_easy_getinfo(easy, CURLINFO_RESPONSE_CODE, &status);
            if (message->data.result != CURLE_OK || status != 200) {
                fprintf(stderr, "a request failed: %s, status %ld\n", curl_easy_strerror(message->data.result), status);
                return 1;
            }
            ended++;
            curl_multi_remove_handle(multi, easy);
            if (begun < requests) {
                begun++;
                curl_multi_add_handle(multi, easy);
            } else {
                curl_easy_cleanup(easy);
            }
        }
        if (ended < requests) curl_multi_poll(multi, NULL, 0, 1000, NULL);
    }
    printf("%.0f\n", (double)requests / (now() - start));
    return 0;
}
