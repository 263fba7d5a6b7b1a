# ActiveRecord: SETs at each connect, an advisory lock around migrations, statements that it prepares
# itself and repairs when a table changes.

require "active_record"
require "tmpdir"
require "uri"

ActiveRecord::Migration.verbose = false
uri = URI(ARGV[0])
CONFIG = {
  adapter: "postgresql", host: uri.host, port: uri.port, database: uri.path[1..],
  username: uri.user, password: URI.decode_www_form_component(uri.password.to_s),
  schema_search_path: "habits", min_messages: "warning", pool: 3, advisory_locks: true,
  variables: { statement_timeout: "30s", "app.tenant" => "habits", lock_timeout: 5000 }
}.freeze
Base = ActiveRecord::Base
Base.default_timezone = :utc
Base.establish_connection(CONFIG)

class Account < Base
  has_many :entries
end

class Entry < Base
  belongs_to :account
end

def say(step, *results) = puts("#{step}: #{results.map(&:inspect).join(' ')}")

def one(sql) = Base.connection.select_value(sql)

def state
  yield
  "no error"
rescue ActiveRecord::StatementInvalid, ActiveRecord::MigrationError => e
  e.class.name
end

def settings_now
  %w[client_min_messages standard_conforming_strings search_path statement_timeout app.tenant
     lock_timeout timezone intervalstyle].map { |name| one("SELECT current_setting('#{name}')") }
end

def in_thread = Thread.new { Base.connection_pool.with_connection { yield } }.value

FIRST = <<~RUBY.freeze
  class MakeAll < ActiveRecord::Migration[6.1]
    def change
      create_table(:accounts) { |t| t.string :name, index: true; t.integer :lock_version, default: 0 }
      create_table(:entries) { |t| t.references :account, foreign_key: true; t.integer :amount }
    end
  end
RUBY
SECOND = <<~RUBY.freeze
  class AddNote < ActiveRecord::Migration[6.1]
    disable_ddl_transaction!
    def change
      add_column :accounts, :note, :string
      add_index :entries, :amount, algorithm: :concurrently
    end
  end
RUBY

def migrations
  Dir.mktmpdir do |folder|
    File.write("#{folder}/1_make_all.rb", FIRST)
    File.write("#{folder}/2_add_note.rb", SECOND)
    yield ActiveRecord::MigrationContext.new(folder, ActiveRecord::SchemaMigration)
  end
end

def migrate(context)
  context.migrate(1)
  say "migrated", context.current_version, Base.connection.tables.sort
  # Another process migrates: it holds the lock of this database.
  id = ActiveRecord::Migrator.new(:up, [], ActiveRecord::SchemaMigration).send(:generate_migrator_advisory_lock_id)
  in_thread do
    one("SELECT pg_try_advisory_lock(#{id})")
    say "locked", Thread.new { state { context.migrate(2) } }.value
    one("SELECT pg_advisory_unlock(#{id})")
  end
end

def records
  accounts = %w[ada bob].map { |name| Account.create!(name: name) }
  Entry.insert_all(Array.new(300) { |i| { account_id: accounts[i % 2].id, amount: i } })
  say "repeated", (1..20).sum { |i| Entry.where(amount: i).count + Account.find_by(name: "ada").entries.where("amount < ?", i).sum(:amount) }
  say "batches", Entry.find_each(batch_size: 70).sum(&:amount), Entry.in_batches(of: 90).count
  Account.transaction do
    ada = Account.lock.find_by!(name: "ada")
    ada.update!(name: "Ada")
    failed = state { Account.transaction(requires_new: true) { one("SELECT 1 / 0") } }
    say "savepoint", failed, Account.order(:id).pluck(:name)
  end
  Account.transaction do
    Account.update_all(name: "nobody")
    raise ActiveRecord::Rollback
  end
  say "rolled back", Account.order(:id).pluck(:name)
  stale = Account.find_by!(name: "Ada")
  Account.find_by!(name: "Ada").update!(name: "ada")
  say "stale", (stale.update(name: "x") rescue $!.class)
  say "isolated", Account.transaction(isolation: :serializable) { one("SHOW transaction_isolation") }
end

# A statement that was prepared before its table was altered by another session.
def altered(context)
  2.times { Account.find_by(name: "bob") }
  in_thread { context.migrate(2) }
  say "altered", Account.find_by(name: "bob").attributes.keys, context.current_version
  Account.reset_column_information
  Account.find_by(name: "bob").update!(note: "noted")
  say "noted", Account.find_by(name: "bob").note, Account.where(note: "noted").count
end

def sets
  Base.connection.execute("SET app.tenant = 'mine'")
  5.times { say "set", *settings_now, "other", *in_thread { settings_now } }
  Base.connection.schema_search_path = "habits, public"
  say "path", *settings_now, Base.connection.current_schema
  say "advisory", Base.connection.get_advisory_lock(42), in_thread { Base.connection.get_advisory_lock(42) },
      Base.connection.release_advisory_lock(42)
  Base.connection.clear_cache!
  say "cleared", Account.find_by(name: "bob").note
  Base.connection.reset!
  say "reset", *settings_now, Account.find_by(name: "bob").note
  say "active", Base.connection.active?, Base.connection.exec_query("SELECT $1::int + 1 AS n", "SQL", [[nil, 41]], prepare: true).rows
end

say "connect", *settings_now
migrations do |context|
  migrate(context)
  records
  altered(context)
  sets
  context.rollback(2)
end
%w[schema_migrations ar_internal_metadata].each { |name| Base.connection.drop_table(name, if_exists: true) }
say "closed", Base.connection.tables
Base.connection_pool.disconnect!
