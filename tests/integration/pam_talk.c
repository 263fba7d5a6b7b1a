/*
 * A PAM module that talks, for test_pam.py: the first argument of its line says how.
 *
 *      prompts   asks for the password three times, in one conversation and in two
 *      words     a message and an error of 500 bytes in front of the question
 *      many      32 messages at once, the last of which is the question
 *      nothing   takes everybody without a word
 *      echo      asks for something that is shown
 *      too-many  33 messages at once
 *      none      a conversation of no messages
 *      hang      waits until the file that the second argument names is there
 *
 * Where it asks, the password has to be "open".
 */
#include <security/pam_appl.h>
#include <security/pam_modules.h>
#include <string.h>
#include <unistd.h>

#define COUNT_MAX 40

/* Puts `count` messages, the last of style `style`; whether the last was answered with the secret.
 */
static int ask(pam_handle_t *handle, int count, int style) {
    static char words[501];
    struct pam_message messages[COUNT_MAX];
    const struct pam_message *pointers[COUNT_MAX];
    struct pam_response *responses = NULL;
    const void *item = NULL;
    memset(words, 'w', sizeof words - 1);
    if (pam_get_item(handle, PAM_CONV, &item) != PAM_SUCCESS) return PAM_CONV_ERR;
    const struct pam_conv *talk = item;
    for (int i = 0; i < count; i++) {
        messages[i].msg_style = i % 2 == 0 ? PAM_TEXT_INFO : PAM_ERROR_MSG;
        if (i == count - 1) messages[i].msg_style = style;
        messages[i].msg = words;
        pointers[i] = &messages[i];
    }
    if (talk->conv(count, pointers, &responses, talk->appdata_ptr) != PAM_SUCCESS)
        return PAM_CONV_ERR;
    int result = PAM_AUTH_ERR;
    if (count > 0 && responses != NULL && responses[count - 1].resp != NULL &&
        strcmp(responses[count - 1].resp, "open") == 0)
        result = PAM_SUCCESS;
    return result; /* the answers are not given back: the process does not live long */
}

int pam_sm_authenticate(pam_handle_t *handle, int flags, int argc, const char **argv) {
    (void)flags;
    const char *how = argc > 0 ? argv[0] : "";
    if (strcmp(how, "nothing") == 0) return PAM_SUCCESS;
    if (strcmp(how, "words") == 0) return ask(handle, 3, PAM_PROMPT_ECHO_OFF);
    if (strcmp(how, "many") == 0) return ask(handle, 32, PAM_PROMPT_ECHO_OFF);
    if (strcmp(how, "too-many") == 0) return ask(handle, 33, PAM_PROMPT_ECHO_OFF);
    if (strcmp(how, "none") == 0) return ask(handle, 0, PAM_PROMPT_ECHO_OFF);
    if (strcmp(how, "echo") == 0) return ask(handle, 1, PAM_PROMPT_ECHO_ON);
    if (strcmp(how, "hang") == 0) {
        while (access(argv[1], F_OK) != 0) usleep(10000);
        return PAM_SUCCESS;
    }
    if (ask(handle, 1, PAM_PROMPT_ECHO_OFF) != PAM_SUCCESS) return PAM_AUTH_ERR;
    return ask(handle, 2, PAM_PROMPT_ECHO_OFF);
}

int pam_sm_setcred(pam_handle_t *handle, int flags, int argc, const char **argv) {
    (void)handle;
    (void)flags;
    (void)argc;
    (void)argv;
    return PAM_SUCCESS;
}

int pam_sm_acct_mgmt(pam_handle_t *handle, int flags, int argc, const char **argv) {
    return pam_sm_setcred(handle, flags, argc, argv);
}
