"""Django: SET TIME ZONE at each connect, cursors on the server, migrations, connections that stay."""

import sys
import threading
import urllib.parse

import django
from django.conf import settings

URL = urllib.parse.urlparse(sys.argv[1])
settings.configure(
    DATABASES={
        "default": {
            "ENGINE": "django.db.backends.postgresql",
            "NAME": URL.path[1:],
            "USER": URL.username,
            "PASSWORD": urllib.parse.unquote(URL.password or ""),
            "HOST": URL.hostname,
            "PORT": URL.port,
            "CONN_MAX_AGE": None,
            "OPTIONS": {"options": "-c search_path=habits -c statement_timeout=30s"},
        }
    },
    INSTALLED_APPS=["django.contrib.contenttypes", "django.contrib.auth"],
    TIME_ZONE="Europe/Berlin",
    USE_TZ=True,
    DEFAULT_AUTO_FIELD="django.db.models.AutoField",
)
django.setup()

from django.contrib.auth.models import Group, User  # noqa: E402
from django.core.management import call_command  # noqa: E402
from django.db import DatabaseError, close_old_connections, connection, transaction  # noqa: E402


def say(step, *results):
    print(f"{step}:", *results)


def one(sql, *values):
    with connection.cursor() as cursor:
        cursor.execute(sql, values)
        return cursor.fetchone()[0] if cursor.description else cursor.rowcount


def state(work):
    try:
        return work()
    except DatabaseError as error:
        return error.__cause__.pgcode


def settings_now():
    names = ("timezone", "search_path", "statement_timeout", "client_encoding", "app.tenant")
    return [one("SELECT current_setting(%s, true)", name) or "" for name in names]


def migrate():
    call_command("migrate", verbosity=0)
    say("migrated", one("SELECT count(*) FROM django_migrations"), Group.objects.count())
    say("schema", one("SELECT 'auth_user'::regclass::text"), one("SELECT current_schema()"))


def objects():
    Group.objects.bulk_create(Group(name=f"group {i:04}") for i in range(500))
    User.objects.create_user("ada", date_joined="2024-02-29T12:30:00Z")
    say("created", User.objects.get(username="ada").date_joined)
    say("repeated", sum(Group.objects.filter(name__lt=f"group 00{i:02}").count() for i in range(20)))
    # Without a transaction the cursor is WITH HOLD, for as long as it is read.
    held = Group.objects.order_by("name").iterator(chunk_size=50)
    say("held", next(held).name, one("SELECT count(*) FROM auth_group"), sum(1 for _ in held))
    with transaction.atomic():
        streamed = Group.objects.order_by("name").iterator(chunk_size=50)
        say("streamed", next(streamed).name, sum(1 for _ in streamed))


def transactions():
    with transaction.atomic():
        ada = User.objects.select_for_update().get(username="ada")
        ada.first_name = "Ada"
        ada.save()
        say("inner", state(lambda: failing()), User.objects.get(username="ada").first_name)
    try:
        with transaction.atomic():
            User.objects.update(first_name="nobody")
            raise ValueError
    except ValueError:
        say("rolled back", User.objects.get(username="ada").first_name)
    say("unique", state(lambda: Group.objects.create(name="group 0001")))
    skipped = User.objects.select_for_update(skip_locked=True)
    with transaction.atomic():
        say("locked", [user.username for user in skipped], in_thread(lambda: locked(skipped)))


def failing():
    with transaction.atomic():
        one("SELECT 1 / 0")


def locked(users):
    with transaction.atomic():
        return [user.username for user in users]


def in_thread(work):
    """Runs work with another connection, which ends."""
    found = []

    def run():
        found.append(work())
        connection.close()

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    return found[0]


def sets():
    one("SET app.tenant = 'mine'")
    one("SET TIME ZONE 'Asia/Tokyo'")
    for _ in range(5):
        say("set", *settings_now(), "other", *in_thread(settings_now))
    close_old_connections()
    say("request", *settings_now())
    with transaction.atomic():
        one("SET LOCAL statement_timeout = '7s'")
        say("local", *settings_now())
    say("after", *settings_now(), User.objects.get(username="ada").date_joined)
    connection.close()
    say("reconnected", *settings_now())


def clean():
    call_command("migrate", "auth", "zero", verbosity=0)
    call_command("migrate", "contenttypes", "zero", verbosity=0)
    one("DROP TABLE django_migrations")
    say("closed", connection.introspection.table_names())
    connection.close()


say("connect", *settings_now())
migrate()
objects()
transactions()
sets()
clean()
