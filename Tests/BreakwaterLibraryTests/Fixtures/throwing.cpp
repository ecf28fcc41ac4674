// A library that breaks the rule: it lets an exception out.

#include "breakwater_handler.h"

#include <stdexcept>

static void run(void *, const breakwater_job *, const breakwater_host *) { throw std::runtime_error("not caught"); }

extern "C" BREAKWATER_EXPORT const breakwater_handler *breakwater_entry() {
    static const breakwater_handler handler = {sizeof(breakwater_handler), BREAKWATER_ABI, nullptr, nullptr, run, nullptr};
    return &handler;
}
