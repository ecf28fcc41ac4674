// A Breakwater handler in C++: it computes the mean and the median of the list of numbers that is a job's payload.

#include "breakwater_handler.h"

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <new>
#include <numeric>
#include <stdexcept>
#include <string>
#include <vector>

namespace {

/// What all runs share: it is made in `open`, and deleted in `close`.
struct Statistics {
    int digits = 6;

    explicit Statistics(const std::string &settings) {
        // A real handler would use a JSON library.
        const std::string key = "\"digits\":";
        const auto place = settings.find(key);
        if (place != std::string::npos) digits = std::atoi(settings.c_str() + place + key.size());
        if (digits < 1 || digits > 17) throw std::invalid_argument("digits must be 1 to 17");
    }
};

std::string text(breakwater_text text) { return text.bytes ? std::string(text.bytes, text.length) : std::string(); }

std::vector<double> numbers(const std::string &json) {
    std::vector<double> numbers;
    const char *place = json.c_str();
    if (*place++ != '[') throw std::invalid_argument("the payload is not a list");
    while (*place != ']') {
        char *end;
        numbers.push_back(std::strtod(place, &end));
        if (end == place) throw std::invalid_argument("the payload has an element that is not a number");
        place = end;
        while (*place == ',' || *place == ' ') place++;
    }
    return numbers;
}

std::string describe(std::vector<double> values, int digits) {
    if (values.empty()) throw std::invalid_argument("the payload is an empty list");
    std::sort(values.begin(), values.end());
    const auto middle = values.size() / 2;
    const double median = values.size() % 2 ? values[middle] : (values[middle - 1] + values[middle]) / 2;
    const double mean = std::accumulate(values.begin(), values.end(), 0.0) / static_cast<double>(values.size());
    char json[160];
    std::snprintf(json, sizeof json, "{\"mean\":%.*g,\"median\":%.*g}", digits, mean, digits, median);
    return json;
}

int32_t open(const breakwater_opening *opening, const breakwater_host *, void **state) noexcept {
    try {
        *state = new Statistics(text(opening->settings));
        return 0;
    } catch (const std::exception &error) {
        std::snprintf(opening->problem, opening->problem_size, "%s", error.what());
        return 1;
    }
}

/// No exception may leave a function that the worker calls, so each one becomes an outcome here.
void run(void *state, const breakwater_job *job, const breakwater_host *host) noexcept {
    try {
        const auto result = describe(numbers(text(job->payload)), static_cast<Statistics *>(state)->digits);
        breakwater_succeed(host, job->run, result.c_str());
    } catch (const std::invalid_argument &error) {
        breakwater_end(host, job->run, BREAKWATER_DISCARDED, "statistics.badPayload", error.what(), 0);
    } catch (const std::bad_alloc &error) {
        breakwater_end(host, job->run, BREAKWATER_UNABLE, "statistics.noMemory", error.what(), 0);
    } catch (const std::exception &error) {
        breakwater_end(host, job->run, BREAKWATER_FAILED, "statistics.exception", error.what(), 0);
    }
}

void close(void *state) noexcept { delete static_cast<Statistics *>(state); }

}  // namespace

extern "C" BREAKWATER_EXPORT const breakwater_handler *breakwater_entry() {
    static const breakwater_handler handler = {
        sizeof(breakwater_handler), BREAKWATER_ABI, "statistics 1.0", open, run, close,
    };
    return &handler;
}
