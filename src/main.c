/*
 * The command line: which configuration, and what to do with it.
 *
 *      weir [options] FILE.ini
 *      weir [options] postgres://user:secret@host:port,.../database
 *      WEIR_URL or DATABASE_URL in the environment, where neither is given
 */
#include "auth/access.h"
#include "config/load.h"
#include "config/url.h"
#include "core/log.h"
#include "core/memory.h"
#include "explain.h"
#include "net/pqconn.h"
#include "net/resolver.h"
#include "process.h"
#include "start.h"

#include <getopt.h>
#include <openssl/crypto.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static const char usage_text[] =
    "Usage: weir [OPTION]... FILE.ini\n"
    "       weir [OPTION]... postgres://USER:SECRET@HOST[:PORT][,HOST[:PORT]]/DATABASE\n"
    "\n"
    "A PostgreSQL connection pooler and read/write router. Without an argument the URL is taken\n"
    "from WEIR_URL, else from DATABASE_URL.\n"
    "\n"
    "  --check               check the configuration, tell every error, and exit\n"
    "  --explain-route SQL   tell where a statement would run and why, and exit; SQL may be the\n"
    "                        name of a file with many, as psql takes it\n"
    "  -d, --daemon          run in the background; needs pidfile, and logfile or syslog\n"
    "  -R, --reboot          take over the connections of the running process\n"
    "  -u, --user USER       become USER, where root starts it\n"
    "  -q, --quiet           write nothing to standard error\n"
    "  -v, --verbose         write more to the log; may be repeated\n"
    "  -V, --version         tell the version and exit\n"
    "  -h, --help            tell this and exit\n";

struct arguments {
    bool is_check;
    bool is_daemon;
    const char *user;
    struct process_options process;
    const char *explain;
    const char *source;
    char *in_argv; /* the source where it stands in the argument list */
};

enum { OPTION_CHECK = 256, OPTION_EXPLAIN };

static const struct option long_options[] = {
    {"check", no_argument, NULL, OPTION_CHECK},
    {"explain-route", required_argument, NULL, OPTION_EXPLAIN},
    {"daemon", no_argument, NULL, 'd'},
    {"reboot", no_argument, NULL, 'R'},
    {"user", required_argument, NULL, 'u'},
    {"quiet", no_argument, NULL, 'q'},
    {"verbose", no_argument, NULL, 'v'},
    {"version", no_argument, NULL, 'V'},
    {"help", no_argument, NULL, 'h'},
    {NULL, 0, NULL, 0},
};

static int usage_error(const char *what) {
    (void)fprintf(stderr, "weir: %s\nTry 'weir --help'.\n", what);
    return 1;
}

static int print_version(void) {
    (void)printf("PgBouncer %s\nweir %s\nlibuv %s\nadns: c-ares %s\ntls: %s\n", PGBOUNCER_VERSION,
                 WEIR_VERSION, uv_version_string(), resolver_version(),
                 OpenSSL_version(OPENSSL_VERSION));
    return 0;
}

/* Overwrites the secret of a URL in the argument list, where every user of the machine sees it. */
static void hide_secret(char *url) {
    char *at = strrchr(url, '@');
    char *colon = strstr(url, "://");
    if (at == NULL || colon == NULL) return;
    colon = strchr(colon + 3, ':');
    if (colon == NULL || colon > at) return;
    memset(colon + 1, 'x', (size_t)(at - colon - 1));
}

static struct config *load(struct arguments *arguments, struct config_errors *errors) {
    if (!url_is_url(arguments->source)) return config_load(arguments->source, errors);
    struct config *config = config_from_url(arguments->source, errors);
    if (arguments->in_argv != NULL) hide_secret(arguments->in_argv);
    return config;
}

/* The files of users and rules that the configuration names; how many errors they have. */
static size_t check_files(const struct config *config) {
    struct rules_report report = {.errors_count = 0};
    struct users_scram scram = {.iterations = (unsigned)config->scram_iterations};
    struct users *users = access_load(config, &scram, &report);
    size_t count = report.errors_count;
    (void)fputs(buf_text(&report.warnings), stdout);
    (void)fputs(buf_text(&report.errors), stderr);
    rules_report_release(&report);
    users_free(&users);
    return count;
}

static int check(struct config *config, struct config_errors *errors) {
    struct buf error = {0};
    struct transport *transport = transport_new(config, &error);
    if (transport == NULL) (void)fprintf(stderr, "%s\n", buf_text(&error));
    buf_release(&error);
    if (transport == NULL) return 1;
    transport_unref(&transport);
    (void)fputs(buf_text(&errors->warnings), stdout);
    size_t count = check_files(config);
    if (count > 0) {
        (void)fprintf(stderr, "%zu errors in the files of users and rules\n", count);
        return 1;
    }
    (void)printf("configuration is fine: %zu databases, %d workers, listening on port %d\n",
                 config->entries[SETTING_SCOPE_DATABASE].count, config->workers,
                 config->listen_port);
    return 0;
}

/* Whether it may start, in its final place: as whom, alone, in the background. */
static bool settle(const struct config *config, struct arguments *arguments) {
    struct process_options *options = &arguments->process;
    if (!start_become(arguments->user != NULL ? arguments->user : config->user)) return false;
    if (!process_open_log(config, options)) return false;
    if (!(options->is_reboot ? start_may_reboot(config) : start_is_alone(config))) return false;
    if (!arguments->is_daemon) return true;
    if (config->pidfile[0] == '\0') {
        log_line(LOG_LEVEL_FATAL, "daemon needs pidfile configured");
        return false;
    }
    if (config->logfile[0] == '\0' && !config->syslog) {
        log_line(LOG_LEVEL_FATAL, "daemon needs logging configured: set logfile or syslog");
        return false;
    }
    options->ready_fd = start_daemon();
    options->is_quiet = true;
    return options->ready_fd >= 0 && process_open_log(config, options);
}

static int start(struct config *config, struct arguments *arguments,
                 const struct config_errors *errors) {
    if (settle(config, arguments)) {
        config_errors_log(errors); /* warnings, where the log is now */
        return process_run(config, &arguments->process);
    }
    config_unref(&config);
    return 1;
}

/* Tells why there is no configuration, in the log that it names if it got that far. */
static void tell_errors(const struct arguments *arguments, const struct config_errors *errors) {
    const struct config *failed = errors->failed;
    if (failed != NULL && geteuid() != 0) (void)process_open_log(failed, &arguments->process);
    config_errors_log(errors);
    log_line(LOG_LEVEL_FATAL, "cannot load config file");
}

static int run(struct arguments *arguments) {
    struct config_errors errors = {0};
    (void)log_open(NULL, arguments->process.is_quiet);
    struct config *config = load(arguments, &errors);
    int status = 1;
    if (config == NULL && arguments->is_check) {
        (void)fputs(buf_text(&errors.text), stderr);
    } else if (config == NULL) {
        tell_errors(arguments, &errors);
    } else if (arguments->is_check) {
        status = check(config, &errors);
        config_unref(&config);
    } else {
        status = start(config, arguments, &errors);
    }
    config_errors_release(&errors);
    return status;
}

/* Fills in what the options say; false where one of them has ended the program, with `status`. */
static bool read_options(int argc, char **argv, struct arguments *arguments, int *status) {
    int option;
    *status = 0;
    while ((option = getopt_long(argc, argv, "dqRu:vVh", long_options, NULL)) != -1) {
        switch (option) {
        case OPTION_CHECK:
            arguments->is_check = true;
            break;
        case OPTION_EXPLAIN:
            arguments->explain = optarg;
            break;
        case 'd':
            arguments->is_daemon = true;
            break;
        case 'R':
            arguments->process.is_reboot = true;
            break;
        case 'u':
            arguments->user = optarg;
            break;
        case 'q':
            arguments->process.is_quiet = true;
            break;
        case 'v':
            arguments->process.verbose++;
            break;
        case 'V':
            *status = print_version();
            return false;
        case 'h':
            (void)fputs(usage_text, stdout);
            return false;
        default:
            *status = usage_error("unknown option");
            return false;
        }
    }
    return true;
}

int main(int argc, char **argv) {
    struct arguments arguments = {.process = {.ready_fd = -1}};
    int status;
    (void)signal(SIGPIPE, SIG_IGN);
    pqconn_forget_environment();
    if (!read_options(argc, argv, &arguments, &status)) return status;
    if (arguments.explain != NULL && explain_is_file(arguments.explain))
        return explain_file(arguments.explain);
    if (arguments.explain != NULL) return explain_statement(arguments.explain);
    if (argc - optind > 1) return usage_error("more than one configuration given");
    if (argc - optind == 1) arguments.source = arguments.in_argv = argv[optind];
    if (arguments.source == NULL) arguments.source = getenv("WEIR_URL");
    if (arguments.source == NULL) arguments.source = getenv("DATABASE_URL");
    if (arguments.source == NULL) return usage_error("no configuration given");
    return run(&arguments);
}
