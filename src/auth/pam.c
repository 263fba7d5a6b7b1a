/* Passwords that PAM judges; see auth/pam.h. */
#include "auth/pam.h"

#include "core/memory.h"

#include <security/pam_appl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MESSAGES_MAX 32

/* Answers one message of a module: a question gets the password, anything else nothing. PAM frees
 * the answers. */
static int answer(const struct pam_message *message, const char *password,
                  struct pam_response *response) {
    switch (message->msg_style) {
    case PAM_PROMPT_ECHO_OFF:
        response->resp = memory_copy_text(password);
        return PAM_SUCCESS;
    case PAM_PROMPT_ECHO_ON: /* a second factor: nobody is there to be asked */
        return PAM_CONV_ERR;
    default:
        return PAM_SUCCESS;
    }
}

static int converse(int count, const struct pam_message **messages, struct pam_response **responses,
                    void *data) {
    const struct blocking_job *job = data;
    if (count <= 0 || count > MESSAGES_MAX) return PAM_CONV_ERR;
    struct pam_response *made = memory_new((size_t)count * sizeof *made);
    for (int i = 0; i < count; i++) {
        if (answer(messages[i], job->password, &made[i]) == PAM_SUCCESS) continue;
        for (int k = 0; k < i; k++) memory_free_secret(made[k].resp);
        memory_free(made);
        return PAM_CONV_ERR;
    }
    *responses = made;
    return PAM_SUCCESS;
}

bool pam_check(const struct blocking_job *job, char reason[BLOCKING_REASON_BYTES]) {
    struct pam_conv conversation = {.conv = converse, .appdata_ptr = (void *)(uintptr_t)job};
    pam_handle_t *handle = NULL;
    const char *step = "pam_start";
    int result = pam_start(PAM_SERVICE_NAME, job->user, &conversation, &handle);
    if (result == PAM_SUCCESS) {
        step = "pam_set_item";
        result = pam_set_item(handle, PAM_RHOST, job->address);
    }
    if (result == PAM_SUCCESS) {
        step = "pam_authenticate";
        result = pam_authenticate(handle, PAM_SILENT | PAM_DISALLOW_NULL_AUTHTOK);
    }
    if (result == PAM_SUCCESS) {
        step = "pam_acct_mgmt";
        result = pam_acct_mgmt(handle, PAM_SILENT);
    }
    if (result != PAM_SUCCESS)
        (void)snprintf(reason, BLOCKING_REASON_BYTES, "%s() failed: %s", step,
                       pam_strerror(handle, result));
    if (handle != NULL) (void)pam_end(handle, result);
    return result == PAM_SUCCESS;
}
