/*
 * Any bytes as an HBA file, an ident file and LDAP options.
 *
 * What must hold: every line is a rule, nothing, or an error; whatever rules there are judge any
 * connection; options are read or refused with a reason.
 */
#include "auth/hba.h"
#include "auth/ldap_options.h"

#include "core/check.h"
#include "core/memory.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Every other file holds what this one does: how many are read is bounded all the same. */
static struct bytes again;

static bool read_again(const char *path, struct buf *text) {
    if (strlen(path) % 2 == 0 || again.len > 256) return false;
    buf_append_bytes(text, again);
    return true;
}

static bool judge_ldap(const char *text, struct buf *why) {
    struct ldap_options options;
    bool is_good = ldap_options_parse(&options, text, why);
    CHECK(is_good || buf_length(why) > 0);
    CHECK(!is_good || (options.server != NULL && options.port >= 1 && options.port <= 65535));
    ldap_options_release(&options);
    return is_good;
}

static void judge(const struct hba *hba, struct bytes name) {
    for (unsigned i = 0; i < 8; i++) {
        struct hba_connection connection = {.is_unix = i == 0,
                                            .is_tls = (i & 1) != 0,
                                            .is_physical = (i & 2) != 0,
                                            .address_bytes = (i & 4) != 0 ? 16 : 4,
                                            .database = name,
                                            .user = name};
        struct hba_verdict verdict = hba_judge(hba, &connection);
        CHECK((verdict.method == HBA_NONE) == (verdict.line == 0));
        CHECK(verdict.map == NULL || verdict.method == HBA_PEER || verdict.method == HBA_CERT);
        CHECK((verdict.ldap != NULL) == (verdict.method == HBA_LDAP));
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct bytes text = bytes_of((const char *)data, size);
    struct rules_report report = {.errors_count = 0};
    again = text;
    struct ident *ident = ident_new(text, "/etc/ident", &report);
    struct hba_source source = {
        .file = "/etc/hba", .ident = ident, .read = read_again, .judge_ldap = judge_ldap};
    struct hba *hba = hba_new(text, &source, &report);
    CHECK((report.errors_count > 0) == (buf_length(&report.errors) > 0));
    judge(hba, bytes_of_text("app"));
    judge(hba, text);
    (void)ident_allows(ident, "m", text, bytes_of_text("app"));
    struct buf why = {0};
    char *options = memory_copy(text.at, text.len);
    (void)judge_ldap(options, &why);
    memory_free(options);
    buf_release(&why);
    hba_free(&hba);
    ident_free(&ident);
    rules_report_release(&report);
    return 0;
}
