/*
 * Scenarios; see script.h for the words. Most have one server for two clients or two for three,
 * so that they meet each other's remains.
 */
#include "scenarios.h"

#include "core/check.h"

#define ONE      "default_pool_size = 1\nauth_type = trust\n"
#define TWO      "default_pool_size = 2\nauth_type = trust\n"
#define FEW_PREP "max_prepared_statements = 2\n"

const struct scenario scenarios[] = {
    {"simple query", ONE,
     "A login\n"
     "A Q SELECT $\n"
     "A Q\n"
     "A Q NOTICE $",
     NULL, false, false},

    {"multi-statement", ONE,
     "A login\n"
     "A Q SELECT $;SELECT $;NOTICE $;SELECT $\n"
     "A Q SELECT $;ERROR $;SELECT $\n"
     "A Q BEGIN;SELECT $\n"
     "A Q COMMIT;SELECT $",
     NULL, false, false},

    {"servers with TLS", ONE "server_tls_sslmode = require\n",
     "A login\n"
     "A Q SELECT $;SELECT $\n"
     "B login\n"
     "A& Q BEGIN | Q SELECT $\n"
     "B& Q SELECT $\n"
     "A Q COMMIT\n"
     "B wait\n"
     "A& Q SLEEP 0 $\n"
     "- time 20\n"
     "A cancel\n"
     "A wait\n"
     "A Q SELECT $",
     NULL, false, false},

    {"errors", ONE,
     "A login\n"
     "B login\n"
     "A Q ERROR $\n"
     "A Q BEGIN\n"
     "A Q ERROR $\n"
     "B& Q SELECT $\n"
     "A Q SELECT $\n"
     "A Q ROLLBACK\n"
     "B wait\n"
     "A Q NONSENSE $",
     NULL, false, false},

    {"queries in a row", ONE,
     "A login\n"
     "B login\n"
     "A& Q SELECT $ | Q SELECT $ | Q ERROR $ | Q SELECT $\n"
     "B& Q SELECT $ | Q SELECT $\n"
     "A wait\n"
     "B wait",
     NULL, false, false},

    {"extended", ONE,
     "A login\n"
     "A P - SELECT $ | B - - $ | D P - | E - | S\n"
     "A P - SELECT $ | D S - | H\n"
     "A B - - $ | E - | S\n"
     "A P one ROWS 5 40 $ | B cursor one | E cursor 2 | E cursor 2 | E cursor 2 | S\n"
     "A C P cursor | C S one | S\n"
     "A P - NOTICE $ | B - - | D P - | E - | S",
     NULL, false, false},

    {"pipelines", ONE,
     "A login\n"
     "A P s SELECT $ | B - s $ | E - | S | B - s $ | E - | S | Q SELECT $ | B - s $ | E - | S\n"
     "A P - ERROR $ | B - - | E - | P t SELECT $ | B - t | E - | S | B - s $ | E - | S\n"
     "A P t SELECT $ | B - t | E - | S\n"
     "A P - BEGIN | B - - | E - | S | P - SELECT $ | B - - | E - | S | P - COMMIT | B - - | E - | "
     "S",
     NULL, false, false},

    {"unnamed statements of two", ONE,
     "A login\n"
     "B login\n"
     "A P - SELECT $ | S\n"
     "B P - SELECT $ | S\n"
     "A B - - $ | D P - | E - | S\n"
     "B D S - | B - - $ | E - | S\n"
     "A B - - $ | E - | S",
     NULL, false, false},

    {"unnamed statements on two servers", TWO,
     "A login\n"
     "B login\n"
     "A P - ERROR $ | B - - | E - | S\n"
     "B Q BEGIN\n"
     "A P - SELECT $ | S\n"
     "A Q BEGIN\n"
     "B Q COMMIT\n"
     "B Q BEGIN\n"
     "A Q COMMIT\n"
     "A B - - $ | E - | S\n"
     "B Q COMMIT\n"
     "A B - - $ | E - | S",
     NULL, false, false},

    {"unnamed statements that are skipped", ONE,
     "A login\n"
     "B login\n"
     "A P x ERROR $ | S\n"
     "B P - SELECT $ | S\n"
     "A B - x | E - | P - SELECT $ | B - - | E - | S\n"
     "A B - - | E - | S\n"
     "B B - - | E - | S\n"
     "A B - x | E - | P - SELECT $ | S | B - - | E - | S\n"
     "A P - SELECT $ | S | B - - | E - | S",
     NULL, false, false},

    {"prepared on two servers", TWO,
     "A login\n"
     "B login\n"
     "A P one SELECT $ | S\n"
     "A B - one $ | E - | S\n"
     "B& Q BEGIN\n"
     "A B - one $ | E - | S\n"
     "B wait\n"
     "A D S one | S\n"
     "B P one SELECT $ | B - one | E - | S\n"
     "B Q COMMIT\n"
     "A B - one $ | E - | S | B - one $ | E - | S\n"
     "B B - one $ | E - | S\n"
     "A C S one | S\n"
     "A P one SELECT $ | B - one | E - | S",
     NULL, false, false},

    {"eviction", ONE FEW_PREP,
     "A login\n"
     "B login\n"
     "A P a SELECT $ | P b SELECT $ | P c SELECT $ | S\n"
     "A B - a | E - | B - b | E - | B - c | E - | S\n"
     "B P a SELECT $ | B - a | E - | S\n"
     "A B - a | E - | S | B - b | E - | S | B - c | E - | S\n"
     "B B - a | E - | S",
     NULL, false, false},

    {"errors in pipelines with eviction", ONE FEW_PREP,
     "A login\n"
     "A P a SELECT $ | P b SELECT $ | S\n"
     "A P x ERROR $ | B - x | E - | P c SELECT $ | B - a | E - | S\n"
     "A B - a | E - | B - b | E - | S\n"
     "A P c SELECT $ | B - c | E - | S\n"
     "A B - x | E - | B - a | E - | S | B - b | E - | S | B - c | E - | S\n"
     "A C S a | C S b | P - ERROR $ | B - - | E - | C S c | S\n"
     "A B - c | E - | S\n"
     "A P a SELECT $ | B - a | E - | S",
     NULL, false, false},

    {"groups that rely on groups that fail", ONE FEW_PREP,
     "A login\n"
     "A P x ERROR $ | P a SELECT $ | S\n"
     "A P b SELECT $ | P c SELECT $ | S\n"
     "A B - x | E - | B - a | E - | S | B - a | E - | S\n"
     "A B - x | E - | P d SELECT $ | S | P d SELECT $ | B - d | E - | S | B - b | E - | S\n"
     "A B - x | E - | C S a | S | B - a | E - | S | B - c | E - | S | B - d | E - | S",
     NULL, false, false},

    {"prepared, then deallocated", ONE,
     "A login\n"
     "B login\n"
     "A P a SELECT $ | B - a | E - | S\n"
     "B P b SELECT $ | B - b | E - | S\n"
     "A P - DEALLOCATE a | B - - | E - | S\n"
     "A P a SELECT $ | B - a | E - | S\n"
     "A Q DEALLOCATE a\n"
     "A P a SELECT $ | B - a | E - | S\n"
     "A Q DEALLOCATE ALL\n"
     "B B - b | E - | S\n"
     "A P a SELECT $ | B - a | E - | S",
     NULL, false, false},

    {"copy out", ONE,
     "A login\n"
     "A Q COPYOUT 3 20 $\n"
     "A P - COPYOUT 3 20 $ | B - - | D P - | E - | S\n"
     "A Q SELECT $;COPYOUT 2 10 $;SELECT $",
     NULL, false, false},

    {"copy in", ONE,
     "A login\n"
     "B login\n"
     "A& Q COPYIN $\n"
     "B& Q SELECT $\n"
     "A d 10 | d 20 | c\n"
     "B wait\n"
     "A Q COPYIN $;SELECT $ | d 10 | c\n"
     "A Q COPYIN $ | d 5 | f $\n"
     "A Q SELECT $",
     NULL, false, false},

    {"copy in with an error", ONE,
     "A login\n"
     "A Q COPYBAD $ | d 10 | d 10 | c\n"
     "A Q SELECT $\n"
     "A& Q COPYBAD $ | d 10\n"
     "A wait\n"
     "A d 10 | d 10 | c | Q SELECT $",
     NULL, false, false},

    {"copy in, extended", ONE,
     "A login\n"
     "A& P - COPYIN $ | B - - | E - | S\n"
     "A d 10 | d 20 | c | S\n"
     "A Q SELECT $\n"
     "A P - COPYIN $ | B - - | E - | d 10 | c | S\n"
     "A P - COPYIN $ | B - - | E - | S | d 10 | c | S\n"
     "A P - COPYBAD $ | B - - | E - | S | d 10 | d 10 | c | S\n"
     "A& P - COPYBAD $ | B - - | E - | S\n"
     "A d 10 | d 10 | c | S\n"
     "A& P - COPYIN $ | B - - | E - | S\n"
     "A d 10 | f $ | S\n"
     "A Q SELECT $",
     NULL, false, false},

    {"transactions", ONE,
     "A login\n"
     "B login\n"
     "A Q BEGIN\n"
     "B& Q SELECT $\n"
     "A Q SELECT $\n"
     "A P s SELECT $ | B - s $ | E - | S\n"
     "A Q COMMIT\n"
     "B wait\n"
     "B Q BEGIN | Q SELECT $ | Q ROLLBACK\n"
     "A B - s $ | E - | S",
     NULL, false, false},

    {"three clients, two servers", TWO,
     "A login\n"
     "B login\n"
     "C login\n"
     "A Q BEGIN\n"
     "B Q BEGIN\n"
     "C& Q SELECT $ | Q SELECT $\n"
     "A Q SELECT $\n"
     "B Q COMMIT\n"
     "C wait\n"
     "C Q BEGIN\n"
     "B& P - SELECT $ | B - - | E - | S\n"
     "A Q COMMIT\n"
     "B wait\n"
     "C Q COMMIT",
     NULL, false, false},

    {"cancel what runs", ONE,
     "A login\n"
     "B login\n"
     "A& Q SLEEP 0 $\n"
     "- time 20\n"
     "B& Q SELECT $\n"
     "A cancel\n"
     "A wait\n"
     "B wait\n"
     "A Q SELECT $\n"
     "A cancel\n"
     "A Q SELECT $",
     NULL, false, false},

    {"cancel while waiting", ONE,
     "A login\n"
     "B login\n"
     "A Q BEGIN\n"
     "B& Q SLEEP 0 $\n"
     "- time 20\n"
     "B cancel\n"
     "B errs 57014\n"
     "B& P - SLEEP 0 $ | B - - | E - | S\n"
     "- time 20\n"
     "B cancel\n"
     "B errs 57014\n"
     "A Q COMMIT\n"
     "B Q SELECT $",
     NULL, false, false},

    {"cancel in a transaction", ONE,
     "A login\n"
     "A Q BEGIN\n"
     "A& Q SLEEP 0 $\n"
     "- time 20\n"
     "A cancel\n"
     "A wait\n"
     "A Q ROLLBACK\n"
     "A Q SELECT $",
     NULL, false, false},

    {"query_wait_timeout", ONE "query_wait_timeout = 3\n",
     "A login\n"
     "B login\n"
     "A Q BEGIN\n"
     "B& Q SELECT $\n"
     "- time 3500\n"
     "B ends 08P01\n"
     "A Q COMMIT",
     NULL, false, false},

    {"parameters", ONE,
     "A login application_name=one TimeZone=CET\n"
     "B login\n"
     "A Q SHOW TimeZone $\n"
     "B Q SHOW TimeZone $\n"
     "B Q SET application_name two\n"
     "A Q SHOW application_name $;SHOW TimeZone $\n"
     "B Q SHOW application_name $;SHOW TimeZone $\n"
     "A Q SET TimeZone='EST';SHOW TimeZone $\n"
     "B P - SHOW TimeZone $ | B - - | E - | S\n"
     "A P s SHOW TimeZone $ | B - s | E - | S | B - s | E - | S\n"
     "B Q BEGIN | Q SET DateStyle SQL | Q ROLLBACK\n"
     "A Q SHOW DateStyle $\n"
     "B Q SHOW DateStyle $",
     NULL, false, false},

    {"a refused parameter", ONE,
     "A login\n"
     "A Q SELECT $\n"
     "B login TimeZone=bad\n"
     "B& Q SELECT $\n"
     "B ends 08P01\n"
     "A Q SELECT $",
     NULL, false, false},

    {"the server is lost at rest", ONE,
     "A login\n"
     "A Q SELECT $\n"
     "- kill\n"
     "- time 20\n"
     "A Q SELECT $",
     NULL, false, false},

    {"the server is lost at work", ONE,
     "A login\n"
     "A& Q SLEEP 0 $\n"
     "- time 20\n"
     "- kill\n"
     "A errs 08006\n"
     "A Q SELECT $\n"
     "A& Q FATAL $\n"
     "A errs 57P01\n"
     "A Q SELECT $",
     NULL, false, false},

    {"the server is lost in a transaction", ONE,
     "A login\n"
     "B login\n"
     "A Q BEGIN\n"
     "B& Q SELECT $\n"
     "- kill\n"
     "A ends 08P01\n"
     "B wait",
     NULL, false, false},

    {"the server is lost in a row of groups", ONE,
     "A login\n"
     "A P s SELECT $ | S\n"
     "A& Q SLEEP 0 $ | P t SELECT $ | B - t | E - | S | B - s | E - | S\n"
     "- time 300\n"
     "- kill\n"
     "A errs 08006\n"
     "A errs 08006\n"
     "A B - s | E - | S\n"
     "A P u SELECT $ | B - u | E - | S",
     NULL, false, false},

    {"no server to be had", ONE,
     "- refuse\n"
     "A& login\n"
     "- time 500\n"
     "A ends 08P01\n"
     "- up\n"
     "- time 2000\n"
     "B login\n"
     "B Q SELECT $",
     NULL, false, false},

    {"login with scram", "default_pool_size = 1\nauth_type = scram-sha-256\n",
     "A login secret\n"
     "A Q SELECT $\n"
     "B& login wrong\n"
     "B ends 08P01\n"
     "A Q SELECT $",
     "secret", false, false},

    {"servers refuse the password", ONE,
     "A& login\n"
     "- time 100\n"
     "A ends 28P01",
     "another", false, false},

    {"words ahead of the welcome", ONE,
     "A& login\n"
     "A& Q SELECT $ | P - SELECT $ | B - - | E - | S\n"
     "A wait\n"
     "A Q SELECT $",
     NULL, false, false},

    {"bytes behind Terminate", ONE,
     "A login\n"
     "B login\n"
     "A& Q SELECT $ | X | Q SELECT $\n"
     "A ends \n"
     "B& X | Q SELECT $\n"
     "B ends ",
     NULL, false, false},

    {"a client that does not read", ONE,
     "A login\n"
     "A stall\n"
     "A& Q ROWS 1500 200 $ | Q SELECT $\n"
     "- time 100\n"
     "A go\n"
     "A wait\n"
     "A stall\n"
     "A& Q ROWS 60 700 $\n"
     "- time 12\n"
     "A& Q ROWS 60 700 $\n"
     "- time 12\n"
     "A& Q ROWS 60 700 $\n"
     "- time 12\n"
     "A& Q ROWS 60 700 $\n"
     "- time 12\n"
     "A& Q ROWS 60 700 $\n"
     "- time 12\n"
     "A& *3 Q ROWS 60 700 $\n"
     "- time 50\n"
     "A go\n"
     "A wait",
     NULL, false, true},

    {"a server that does not read", ONE,
     "A login\n"
     "A& Q COPYIN $\n"
     "- time 20\n"
     "- stall\n"
     "A& *60 d 5000 | c\n"
     "- time 100\n"
     "- go\n"
     "A wait\n"
     "- stall\n"
     "A& *400 Q SELECT $\n"
     "- time 100\n"
     "- go\n"
     "A wait",
     NULL, false, true},

    {"session mode", "default_pool_size = 2\nauth_type = trust\npool_mode = session\n",
     "A login\n"
     "A P s SELECT $ | B - s | E - | S\n"
     "A Q SET TimeZone CET\n"
     "B login\n"
     "B Q SHOW TimeZone $\n"
     "A Q SHOW TimeZone $\n"
     "A X\n"
     "C login\n"
     "C P s SELECT $ | B - s | E - | S\n"
     "C Q SHOW TimeZone $",
     NULL, false, false},

    {"reads on a standby", TWO,
     "A login\n"
     "A Q SELECT $\n"
     "A Q INSERT $\n"
     "A Q SELECT standby, $\n"
     "A P - SELECT standby, $ | B - - | D P - | E - | S\n"
     "A P s SELECT $ | B - s | E - | S\n"
     "A P r SELECT standby, $ | B - r | E - | S\n"
     "A B - r | E - | S | B - s | E - | S | Q SELECT $\n"
     "A Q BEGIN\n"
     "A Q SELECT $\n"
     "A Q COMMIT\n"
     "B login\n"
     "B Q SELECT $ | Q SELECT $ | Q BEGIN | Q SELECT $ | Q COMMIT | Q SELECT $",
     NULL, true, false},

    {"a BEGIN held back", TWO,
     "A login\n"
     "A Q BEGIN\n"
     "A Q COMMIT\n"
     "A Q BEGIN | Q ROLLBACK | Q BEGIN | Q SELECT $ | Q ERROR $ | Q SELECT $ | Q ROLLBACK\n"
     "A P - BEGIN | B - - | D P - | E - | S\n"
     "A S\n"
     "A P - SELECT $ | B - - | D P - | E - | S\n"
     "A P - COMMIT | B - - | E - | S\n"
     "A P b BEGIN | B - b | E - | C P - | S\n"
     "A Q INSERT $\n"
     "A Q ROLLBACK\n"
     "A B - b | E - | S | P s SELECT $ | B - s | E - | S | Q COMMIT\n"
     "A P - BEGIN | B - - | E - | S\n"
     "A B - s | E - | S\n"
     "A Q COMMIT;SELECT $\n"
     "A Q BEGIN\n"
     "A Q",
     NULL, true, false},

    {"a read-only transaction that a standby refuses", TWO,
     "A login\n"
     "A Q BEGIN READ ONLY\n"
     "A Q SELECT standby, $\n"
     "A Q SELECT $\n"
     "A Q COMMIT\n"
     "A Q BEGIN READ ONLY | Q SELECT $ | Q SELECT $ | Q COMMIT | Q INSERT $\n"
     "A P - BEGIN READ ONLY | B - - | E - | P - SELECT standby, $ | B - - | D P - | E - | S\n"
     "A P - COMMIT | B - - | E - | S\n"
     "A Q BEGIN READ ONLY\n"
     "A P t SELECT standby, $ | B - t | E - | S\n"
     "A B - t | E - | S\n"
     "A Q ERROR $\n"
     "A Q ROLLBACK",
     NULL, true, false},

    {"a BEGIN that fails", TWO "cancel_wait_timeout = 2\n",
     "A login\n"
     "A Q BEGIN DEFERRABLE\n"
     "A Q SELECT $\n"
     "A Q SELECT $\n"
     "A Q BEGIN DEFERRABLE\n"
     "A P - SELECT $ | B - - | D P - | E - | S\n"
     "A P s SELECT $ | B - s | D P - | E - | S\n"
     "A Q BEGIN READ ONLY, DEFERRABLE\n"
     "A Q SELECT $;SELECT $\n"
     "A P - BEGIN READ ONLY, DEFERRABLE | B - - | E - | S | P - SELECT $ | B - - | E - | S\n"
     "A Q SELECT $",
     NULL, true, false},

    {"the end of a transaction on a standby, and more", TWO,
     "A login\n"
     "A Q BEGIN READ ONLY\n"
     "A Q SELECT $\n"
     "A Q COMMIT;SELECT standby, $\n"
     "A Q BEGIN READ ONLY | Q SELECT $ | Q ROLLBACK;BEGIN | Q SELECT standby, $ | Q COMMIT\n"
     "A Q BEGIN READ ONLY | Q SELECT $ | Q ERROR $\n"
     "A Q ROLLBACK;SELECT standby, $\n"
     "A Q BEGIN READ ONLY | Q SELECT $\n"
     "A P - COMMIT | B - - | E - | P - SELECT standby, $ | B - - | E - | S\n"
     "A Q SELECT $",
     NULL, true, false},

    {"a cancel in front of a transaction", "default_pool_size = 1\nauth_type = trust\n",
     "A login\n"
     "B login\n"
     "A Q BEGIN\n"
     "A Q SELECT $\n"
     "B Q BEGIN\n"
     "B& Q SELECT $\n"
     "- time 90\n"
     "B cancel\n"
     "B errs 57014\n"
     "B& Q SELECT $\n"
     "B errs 25P02\n"
     "B& P - SELECT $ | B - - | E - | S\n"
     "B errs 25P02\n"
     "B Q ROLLBACK\n"
     "B Q BEGIN | Q COMMIT\n"
     "A Q COMMIT\n"
     "B Q BEGIN | Q SELECT $ | Q COMMIT",
     NULL, true, false},
};

const size_t scenarios_count = COUNT(scenarios);
