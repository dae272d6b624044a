/* SPDX-License-Identifier: Apache-2.0 */
/* Reads the filter's configuration, and refuses what `overhop sidecar render` refuses, for the same reasons. */
#include "config.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MESSAGE_BYTES 256

/* They say where a message ends and what becomes of its connection: RFC 9110 section 7.6.1, RFC 9112. */
static const char *const FRAMING[] = {"connection", "content-length", "expect", "http2-settings", "keep-alive",
    "proxy-connection", "te", "trailer", "transfer-encoding", "upgrade"};

static const char *const COUNTER_NAMES[COUNTERS] = {
    "relocated_total", "relocate_held_total", "relocate_skipped_total", "relocate_errors_total"};

static void complain(struct name name, const char *why) {
    char text[MESSAGE_BYTES];
    int length = name.length > MAX_NAME_BYTES ? MAX_NAME_BYTES : (int)name.length;
    int said = snprintf(text, sizeof text, "relocate: header \"%.*s\": %s", length, name.text, why);
    if (said > 0)
        envoy_dynamic_module_callback_log(LOG_ERROR, (struct module_bytes){text, strlen(text)});
}

/* RFC 9110 section 5.6.2: what a name may have beside letters and digits. */
static bool is_token_byte(char byte) {
    return (byte >= 'a' && byte <= 'z') || (byte >= '0' && byte <= '9') ||
           (byte != '\0' && strchr("!#$%&'*+-.^_`|~", byte) != NULL);
}

static bool is_text(struct name name, const char *text) {
    return name.length == strlen(text) && memcmp(name.text, text, name.length) == 0;
}

static bool is_framing(struct name name) {
    for (size_t at = 0; at < sizeof FRAMING / sizeof *FRAMING; at++) {
        if (is_text(name, FRAMING[at]))
            return true;
    }
    return false;
}

/* What is wrong with a name; NULL: nothing. */
static const char *fault(struct name name) {
    if (name.length == 0)
        return "is empty";
    if (name.length > MAX_NAME_BYTES)
        return "is longer than 128 bytes";
    if (name.text[0] == ':')
        return "is a pseudo header, which comes first anyway";
    if (is_text(name, "host"))
        return "comes first anyway";
    if (is_framing(name))
        return "belongs to the connection, not to the request";
    for (size_t at = 0; at < name.length; at++) {
        if (!is_token_byte(name.text[at]))
            return "is no name of a header in lower case (RFC 9110 section 5.1)";
    }
    return NULL;
}

static bool has_name(const struct config *config, struct name name) {
    for (size_t at = 0; at < config->count; at++) {
        if (config->names[at].length == name.length && memcmp(config->names[at].text, name.text, name.length) == 0)
            return true;
    }
    return false;
}

static const char *add_name(struct config *config, struct name name) {
    const char *why = fault(name);
    if (why != NULL)
        return why;
    if (has_name(config, name))
        return "is named twice";
    if (config->count == MAX_NAMES)
        return "is one more than the 32 that there may be";
    config->names[config->count++] = name;
    config->lengths |= UINT64_C(1) << (name.length < 63 ? name.length : 63);
    return NULL;
}

/* All names between commas, without the spaces around them; complains of each that is wrong. */
static bool add_names(struct config *config, size_t length) {
    bool is_good = true;
    const char *from = config->text, *end = config->text + length;
    for (;;) {
        const char *comma = memchr(from, ',', (size_t)(end - from));
        const char *to = comma != NULL ? comma : end;
        struct name name = {from, (size_t)(to - from)};
        for (; name.length > 0 && *name.text == ' '; name.text++)
            name.length--;
        while (name.length > 0 && name.text[name.length - 1] == ' ')
            name.length--;
        const char *why = add_name(config, name);
        if (why != NULL) {
            complain(name, why);
            is_good = false;
        }
        if (comma == NULL)
            return is_good;
        from = comma + 1;
    }
}

/* A filter without counters is better than none: Envoy defines no more of them while it reloads a frozen scope. */
static void define_counters(struct config *config, envoy_config envoy) {
    config->has_counters = true;
    for (size_t at = 0; at < COUNTERS; at++) {
        struct module_bytes name = {COUNTER_NAMES[at], strlen(COUNTER_NAMES[at])};
        config->has_counters &= envoy_dynamic_module_callback_http_filter_config_define_counter(
                                    envoy, name, NULL, 0, &config->counters[at]) == METRICS_SUCCESS;
    }
}

struct config *config_new(envoy_config envoy, struct envoy_bytes text) {
    size_t length = text.ptr != NULL ? text.length : 0;
    struct config *config = calloc(1, sizeof *config + length + 1);
    if (config == NULL)
        return NULL;
    if (length > 0)
        memcpy(config->text, text.ptr, length);
    if (!add_names(config, length)) {
        free(config);
        return NULL;
    }
    define_counters(config, envoy);
    return config;
}
