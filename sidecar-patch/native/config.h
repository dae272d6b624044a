/* SPDX-License-Identifier: Apache-2.0 */
/* The names of the context headers, as the configuration of the filter gives them. */
#ifndef OVERHOP_CONFIG_H
#define OVERHOP_CONFIG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "envoy_abi.h"

#define MAX_NAMES 32
#define MAX_NAME_BYTES 128

enum counter { RELOCATED, HELD, SKIPPED, ERRORS, COUNTERS };

struct name {
    const char *text;
    size_t length;
};

struct config {
    size_t count;
    struct name names[MAX_NAMES];
    uint64_t lengths; /* bit n: a name of n bytes is among them; 63: of 63 or more */
    bool has_counters;
    size_t counters[COUNTERS];
    char text[]; /* what the names point into */
};

/* From names joined by commas; NULL if something is wrong with them, which is then in Envoy's log. */
struct config *config_new(envoy_config envoy, struct envoy_bytes text);

#endif
