// What a Java program does with spymemcached, over its text and its binary protocol:
// `java -cp /usr/share/java/spymemcached.jar SpymemcachedFlow.java PORT`.
// Ends with 0 when every claim holds; the first that does not is thrown.
import java.net.InetSocketAddress;
import java.util.ArrayList;
import java.util.Collections;
import java.util.List;
import java.util.Map;
import java.util.concurrent.Future;
import net.spy.memcached.CASResponse;
import net.spy.memcached.CASValue;
import net.spy.memcached.ConnectionFactoryBuilder;
import net.spy.memcached.MemcachedClient;

public class SpymemcachedFlow {
    static void claim(boolean holds, String what) {
        if (!holds) throw new AssertionError("does not hold: " + what);
    }

    static void all(MemcachedClient c, String k, boolean text) throws Exception {
        c.flush().get();
        claim(c.get(k) == null, "an absent key is null");
        claim(c.set(k, 0, "v").get() && "v".equals(c.get(k)), "set stores");
        claim(!c.add(k, 0, "w").get() && c.replace(k, 0, 5).get(), "add spares, replace replaces");
        claim(Integer.valueOf(5).equals(c.get(k)), "a type comes back by its flags");

        CASValue<Object> seen = c.gets(k);
        claim(c.cas(k, seen.getCas(), 6) == CASResponse.OK, "cas stores when nobody was faster");
        claim(c.cas(k, seen.getCas(), 7) == CASResponse.EXISTS, "and refuses when somebody was");
        claim(c.cas(k + "-none", 1, 7) == CASResponse.NOT_FOUND, "and misses without the key");

        claim(c.set(k, 0, "b").get() && c.append(k, "c").get() && c.prepend(k, "a").get(), "append, prepend");
        claim("abc".equals(c.get(k)), "they concatenate");
        claim(c.incr(k + "-n", 5, 10, 60) == 10 && c.incr(k + "-n", 5) == 15, "incr with a default");
        claim(c.decr(k + "-n", 20) == 0, "decr stops at 0");
        claim(c.touch(k, 100).get(), "touch");
        // The client has it in the binary protocol only.
        claim(text || "abc".equals(c.getAndTouch(k, 100).getValue()), "get and touch");
        claim(c.delete(k).get() && c.get(k) == null, "delete deletes");

        byte[] large = new byte[700_000];
        new java.util.Random(7).nextBytes(large);
        claim(c.set(k, 0, large).get() && java.util.Arrays.equals(large, (byte[]) c.get(k)), "a large value");

        // The client gathers gets of one moment into one multi-get.
        List<Future<Object>> waiting = new ArrayList<>();
        List<String> keys = new ArrayList<>();
        for (int i = 0; i < 500; i++) {
            c.set(k + i, 0, "v" + i);
            keys.add(k + i);
        }
        for (int i = 0; i < 500; i++) waiting.add(c.asyncGet(k + i));
        for (int i = 0; i < 500; i++) claim(("v" + i).equals(waiting.get(i).get()), "gets in flight, " + i);
        Map<String, Object> bulk = c.getBulk(keys);
        claim(bulk.size() == 500 && "v7".equals(bulk.get(k + 7)), "getBulk answers what is there");

        Map<String, String> stats = c.getStats().values().iterator().next();
        claim(Long.parseLong(stats.get("pid")) > 0, "stats");
        claim(c.getVersions().values().iterator().next().startsWith("1.6."), "version");
        claim(c.flush().get() && c.get(k + 7) == null, "flush");
    }

    public static void main(String[] args) throws Exception {
        System.setProperty("net.spy.log.LoggerImpl", "net.spy.memcached.compat.log.SunLogger");
        java.util.logging.Logger.getLogger("net.spy").setLevel(java.util.logging.Level.SEVERE);
        List<InetSocketAddress> at =
            Collections.singletonList(new InetSocketAddress("127.0.0.1", Integer.parseInt(args[0])));
        for (ConnectionFactoryBuilder.Protocol p : ConnectionFactoryBuilder.Protocol.values()) {
            MemcachedClient c = new MemcachedClient(
                new ConnectionFactoryBuilder().setProtocol(p).setOpTimeout(60_000).build(), at);
            try {
                all(c, "spy-" + p, p == ConnectionFactoryBuilder.Protocol.TEXT);
            } finally {
                c.shutdown(); // its thread would keep the program alive
            }
        }
        System.out.println("spymemcached: all claims hold");
    }
}
