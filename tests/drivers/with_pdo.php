<?php
// PHP's PDO and pgsql: PDO prepares everything under pdo_stmt_N and drops it by DEALLOCATE.

$url = parse_url($argv[1]);
$place = [$url["host"], $url["port"], substr($url["path"], 1)];

function say(string $step, ...$results): void
{
    echo "$step: ", json_encode($results, JSON_UNESCAPED_UNICODE), "\n";
}

function connect(): PDO
{
    global $place, $url;
    $source = vsprintf("pgsql:host=%s;port=%d;dbname=%s", $place);
    return new PDO($source, $url["user"], urldecode($url["pass"]));
}

function one(PDO $pdo, string $sql, ...$values)
{
    $statement = $pdo->prepare($sql);
    $statement->execute($values);
    return $statement->fetchColumn();
}

function state(callable $work): string
{
    try {
        $work();
        return "no error";
    } catch (PDOException $error) {
        return $error->getCode();
    }
}

function transactions(PDO $pdo): void
{
    $insert = $pdo->prepare("INSERT INTO things VALUES (:id, :name)");
    $pdo->beginTransaction();
    foreach (["one", "two", "three"] as $name) {
        $insert->execute(["id" => strlen($name), "name" => $name]);
    }
    $pdo->commit();
    say("commit", one($pdo, "SELECT count(*) FROM things"));
    $pdo->beginTransaction();
    $insert->execute(["id" => 4, "name" => "four"]);
    $pdo->rollBack();
    say("rollback", one($pdo, "SELECT count(*) FROM things"));
    $pdo->beginTransaction();
    $failed = state(fn () => one($pdo, "SELECT 1 / ?::int", 0));
    say("error", $failed, state(fn () => $pdo->query("SELECT 1")));
    $pdo->rollBack();
    $pdo->beginTransaction();
    $insert->execute(["id" => 6, "name" => "six"]);
    $pdo->exec("SAVEPOINT s");
    $failed = state(fn () => one($pdo, "SELECT 1 / ?::int", 0));
    $pdo->exec("ROLLBACK TO s");
    say("savepoint", $failed, one($pdo, "SELECT count(*) FROM things"));
    $scroll = [PDO::ATTR_CURSOR => PDO::CURSOR_SCROLL];
    $cursor = $pdo->prepare("SELECT generate_series(1, 1000)", $scroll);
    $cursor->execute();
    $total = 0;
    while (($row = $cursor->fetch(PDO::FETCH_NUM)) !== false) {
        $total += $row[0];
    }
    say("cursor", $total);
    unset($cursor);
    $pdo->commit();
}

// A query that is cancelled is beyond PDO: PHP's other driver has it.
function cancel(): void
{
    global $place, $url;
    $login = [...$place, $url["user"], urldecode($url["pass"])];
    $link = pg_connect(vsprintf("host=%s port=%d dbname=%s user=%s password='%s'", $login));
    pg_send_query($link, "SELECT pg_sleep(30)");
    usleep(300000);
    pg_cancel_query($link);
    $result = pg_fetch_result(pg_query_params($link, 'SELECT $1::int + 1', [1]), 0, 0);
    say("cancel", $result);
    pg_close($link);
}

$pdo = connect();
$other = connect();
$pdo->exec("DELETE FROM things");
say("connect", one($pdo, "SELECT current_user"));
say("simple", $pdo->query("SELECT 1 + 1")->fetchColumn());
$types = $pdo->prepare("SELECT ?::int, ?::bigint, ?::text, ?::bool, ?::float8, ?::numeric, ?::date,"
    . " ?::jsonb, ?::int");
$types->execute([42, 2 ** 40, "it's", "t", 0.1, "1.50", "2024-02-29", '{"a": 1}', null]);
say("types", $types->fetch(PDO::FETCH_NUM));
$double = $pdo->prepare("SELECT ?::int * 2");
$total = 0;
for ($i = 1; $i <= 20; $i++) {
    $double->execute([$i]);
    $total += $double->fetchColumn();
}
say("repeated", $total);
transactions($pdo);
$rows = $pdo->query("SELECT generate_series(1, 5000)")->fetchAll(PDO::FETCH_COLUMN);
say("rows", array_sum($rows));
$pdo->pgsqlCopyFromArray("things", ["7\ttab\\there\n", "8\t\\N\n"]);
say("copy", $pdo->pgsqlCopyToArray("things"));
cancel();
for ($i = 0; $i < 24; $i++) {
    say("turns", one($i % 2 ? $pdo : $other, "SELECT ?::int + 100", $i));
}
$emulated = $pdo->prepare("SELECT ? || 'x'", [PDO::ATTR_EMULATE_PREPARES => true]);
$emulated->execute(["it's"]);
say("emulated", $emulated->fetchColumn());
say("unicode", one($pdo, "SELECT ?::text || ' 世界 🐘'", "Grüße"));
unset($double, $types, $emulated);
$pdo = $other = null;
say("closed");
