# What a Ruby program does with dalli, over its binary and its meta protocol: `ruby dalli_flow.rb PORT`.
# Ends with 0 when every claim holds; the first that does not is raised with its line.
require 'dalli'

def claim(holds, what)
  raise "does not hold: #{what}" unless holds
end

def single_keys(client, k)
  claim client.get(k).nil?, 'an absent key is nil'
  claim client.set(k, { 'a' => [1, 2] }), 'set stores'
  claim client.get(k) == { 'a' => [1, 2] }, 'a marshalled value comes back by its flags'
  claim !client.add(k, 1), 'add spares a present key'
  claim client.replace(k, 'text') && client.get(k) == 'text', 'replace replaces'
  claim client.set(k, 'b', nil, raw: true), 'raw set'
  claim client.append(k, 'c') && client.prepend(k, 'a'), 'append and prepend'
  claim client.get(k, raw: true) == 'abc', 'they concatenate'
  claim client.delete(k) && client.get(k).nil?, 'delete deletes'
  large = Random.bytes(300_000)
  claim client.set(k, large, nil, raw: true) && client.get(k, raw: true) == large, 'a large value'
  packed = 'x' * 500_000
  claim client.set(k, packed, nil, compress: true) && client.get(k) == packed, 'a compressed value'
end

def counters(client, k)
  claim client.incr(k, 5).nil?, 'incr of an absent key without default is nil'
  claim client.incr(k, 5, 60, 10) == 10, 'incr makes it with its default'
  claim client.incr(k, 5) == 15 && client.decr(k, 20) == 0, 'incr adds, decr stops at 0'
end

def conditions(client, k)
  client.set(k, 1)
  claim client.cas(k) { |v| v + 1 }, 'cas stores when nobody was faster'
  claim client.get(k) == 2, 'what the block gave'
  claim !client.cas(k) { |v| client.set(k, 10); v + 1 }, 'cas refuses when somebody was'
  claim client.get(k) == 10 && client.cas("#{k}-none") { 1 }.nil?, 'and is nil without the key'
  value, token = client.get_cas(k)
  claim value == 10 && client.set_cas(k, 11, token) && !client.set_cas(k, 12, token), 'a token is good once'
end

def many(client, k)
  client.multi { 200.times { |i| client.set("#{k}-#{i}", i) } }
  got = client.get_multi((0...250).map { |i| "#{k}-#{i}" })
  claim got.size == 200 && got["#{k}-7"] == 7, 'get_multi answers what is there'
  claim client.fetch("#{k}-f", 60) { 'made' } == 'made' && client.get("#{k}-f") == 'made', 'fetch fills'
end

def times(client, k)
  client.set(k, 'v', 100)
  claim client.touch(k, 1000) && !client.touch("#{k}-none", 1000), 'touch'
  claim client.gat(k, 50) == 'v' && client.gat("#{k}-none", 50).nil?, 'gat'
  client.set(k, 'v', 1)
  limit = Time.now + 60
  sleep 0.05 while client.get(k) && Time.now < limit
  claim client.get(k).nil?, 'a second ends'
end

def server(client)
  stats = client.stats.values.first
  claim stats['pid'].to_i.positive? && stats['cmd_get'].to_i.positive?, 'stats'
  claim client.version.values.first.start_with?('1.6.'), 'version'
  claim client.alive!, 'alive'
end

%i[binary meta].each do |protocol|
  client = Dalli::Client.new("127.0.0.1:#{ARGV.fetch(0)}", protocol: protocol, value_max_bytes: 4 << 20,
                                                                socket_timeout: 60)
  %i[single_keys counters conditions many times].each { |part| send(part, client, "#{protocol}-#{part}") }
  server(client)
  client.close
end
puts 'dalli: all claims hold'
