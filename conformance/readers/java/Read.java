import io.airlift.compress.zstd.ZstdDecompressor;
import java.io.ByteArrayInputStream;
import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.io.InputStream;
import java.math.BigInteger;
import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.security.MessageDigest;
import java.time.Instant;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.stream.Stream;
import java.util.zip.GZIPInputStream;
import software.amazon.kinesis.retrieval.AggregatorUtil;
import software.amazon.kinesis.retrieval.KinesisClientRecord;

/**
 * Reads every case with Java: the KCL's deaggregation, GZIPInputStream, zstd-jni (the C library), aircompressor (Trino's and Athena's).
 *
 * <p>Not tested: GZIPInputStream calls available() of the stream below to know whether another member follows. If that returns 0 too
 * early, it ends without an error before the last member.
 */
public final class Read {
    private static final String KCL = "KCL " + version(AggregatorUtil.class);
    private static final String GZIP = "Java " + Runtime.version().feature() + " GZIPInputStream";
    private static final String ZSTD_JNI = "Java zstd-jni " + version(com.github.luben.zstd.Zstd.class);
    private static final String AIRCOMPRESSOR = "Java aircompressor " + version(ZstdDecompressor.class);

    private static final BigInteger LAST_HASH_KEY = BigInteger.ONE.shiftLeft(128).subtract(BigInteger.ONE);

    private final String name;
    private final String format;
    private final List<byte[]> records = new ArrayList<>();
    private final List<String> keys;
    private final byte[] expected;
    private final List<String> events;

    public static void main(String[] args) throws Exception {
        for (Path path : sorted(Path.of(args[0]))) {
            Read read = new Read(path);
            try {
                read.read();
            } catch (IllegalStateException e) {
                System.err.println("FAILED: " + read.name + ": " + e.getMessage());
                System.exit(1);
            }
        }
    }

    private static List<Path> sorted(Path folder) throws IOException {
        try (Stream<Path> paths = Files.list(folder)) {
            return paths.sorted().toList();
        }
    }

    private static String version(Class<?> of) {
        String jar = Path.of(of.getProtectionDomain().getCodeSource().getLocation().getPath()).getFileName().toString();
        return jar.replaceAll("^[a-z-]*|\\.jar$", "");
    }

    private Read(Path path) throws IOException {
        name = path.getFileName().toString();
        format = name.substring(0, name.indexOf('-'));
        for (Path record : sorted(path.resolve("records"))) {
            records.add(Files.readAllBytes(record));
        }
        keys = Files.readAllLines(path.resolve("keys.txt"));
        check(keys.size() == records.size(), "a partition key for each record");
        byte[] lines = Files.readAllBytes(path.resolve("events.ndjson"));
        // Not readAllLines, which also splits at \r.
        events = List.of(new String(lines, StandardCharsets.UTF_8).split("\n"));
        // The format json has no separator between events.
        expected = format.equals("json") ? String.join("", events).getBytes(StandardCharsets.UTF_8) : lines;
    }

    private void read() throws Exception {
        if (format.equals("cloudwatch")) {
            return; // the readers in other languages read it
        }
        if (format.equals("kpl")) {
            kpl();
        } else if (name.endsWith("-gzip")) {
            decompress(GZIP, GZIPInputStream::new);
        } else if (name.endsWith("-zstd")) {
            decompress(ZSTD_JNI, com.github.luben.zstd.ZstdInputStream::new);
            decompress(AIRCOMPRESSOR, io.airlift.compress.zstd.ZstdInputStream::new);
            blocks();
        }
    }

    private interface Decompressor {
        InputStream open(InputStream compressed) throws IOException;
    }

    /** Decompresses each record, and all records concatenated as Firehose writes them into one object. */
    private void decompress(String reader, Decompressor decompressor) throws IOException {
        ByteArrayOutputStream each = new ByteArrayOutputStream();
        ByteArrayOutputStream row = new ByteArrayOutputStream();
        for (byte[] record : records) {
            row.write(record);
            try (InputStream plain = decompressor.open(new ByteArrayInputStream(record))) {
                plain.transferTo(each);
            }
        }
        compare(reader, "", each.toByteArray());
        try (InputStream plain = decompressor.open(new ByteArrayInputStream(row.toByteArray()))) {
            compare(reader, "concatenated", plain.readAllBytes());
        }
    }

    /** Decompresses each record with one call, into a buffer of the content size in its header. */
    private void blocks() throws IOException {
        ByteArrayOutputStream jni = new ByteArrayOutputStream();
        ByteArrayOutputStream air = new ByteArrayOutputStream();
        for (byte[] record : records) {
            long size = com.github.luben.zstd.Zstd.getFrameContentSize(record);
            check(size >= 0, "the frame's header has no content size");
            jni.write(com.github.luben.zstd.Zstd.decompress(record, (int) size));
            size = ZstdDecompressor.getDecompressedSize(record, 0, record.length);
            check(size >= 0, "the frame's header has no content size");
            byte[] plain = new byte[(int) size];
            air.write(plain, 0, new ZstdDecompressor().decompress(record, 0, record.length, plain, 0, plain.length));
        }
        compare(ZSTD_JNI, "one call", jni.toByteArray());
        compare(AIRCOMPRESSOR, "one call", air.toByteArray());
    }

    private void compare(String reader, String how, byte[] plain) {
        int at = Arrays.mismatch(plain, expected);
        check(at < 0, reader + " " + how + ": " + plain.length + " bytes of " + expected.length + ", different at " + at);
        print(reader, how, events.size());
    }

    private void print(String reader, String how, int read) {
        System.out.printf("%-34s %-16s %-14s %d events of %d, equal%n", reader, name, how, read, events.size());
    }

    private static void check(boolean holds, String message) {
        if (!holds) {
            throw new IllegalStateException(message);
        }
    }

    /**
     * Deaggregates like a consumer with the lease of one shard: the KCL gets the shard's range of hash keys. If a record's key is outside
     * that range, the KCL drops the whole record and only logs it.
     */
    private void kpl() throws Exception {
        List<String> all = new ArrayList<>();
        List<BigInteger> hashes = new ArrayList<>();
        for (int i = 0; i < records.size(); i++) {
            all.addAll(deaggregate(i, BigInteger.ZERO, LAST_HASH_KEY));
            byte[] md5 = MessageDigest.getInstance("MD5").digest(keys.get(i).getBytes(StandardCharsets.UTF_8));
            hashes.add(new BigInteger(1, md5));
        }
        compareEvents("", all);

        // The shard is split between the keys, and the consumers of both halves read each record. Exactly one of them must drop it.
        List<BigInteger> distinct = hashes.stream().distinct().sorted().toList();
        check(distinct.size() > 1, "all records have one partition key: the test needs two");
        BigInteger split = distinct.get(distinct.size() / 2);
        List<String> joined = new ArrayList<>();
        int lower = 0;
        for (int i = 0; i < records.size(); i++) {
            List<String> low = deaggregate(i, BigInteger.ZERO, split.subtract(BigInteger.ONE));
            List<String> high = deaggregate(i, split, LAST_HASH_KEY);
            boolean isLow = hashes.get(i).compareTo(split) < 0;
            check((isLow ? high : low).isEmpty(), "the consumer of the other half also reads record " + (i + 1));
            joined.addAll(low);
            joined.addAll(high);
            lower += low.size();
        }
        check(lower > 0 && lower < joined.size(), "one of the halves has no events");
        compareEvents(lower + " + " + (joined.size() - lower), joined);
    }

    private List<String> deaggregate(int number, BigInteger from, BigInteger to) {
        KinesisClientRecord record = KinesisClientRecord.builder()
                .data(ByteBuffer.wrap(records.get(number)).asReadOnlyBuffer())
                .partitionKey(keys.get(number))
                .sequenceNumber(Integer.toString(number))
                .approximateArrivalTimestamp(Instant.EPOCH)
                .build();
        List<String> read = new ArrayList<>();
        for (KinesisClientRecord user : new AggregatorUtil().deaggregate(List.of(record), from, to)) {
            check(user.aggregated() && user.partitionKey().equals(keys.get(number)) && user.explicitHashKey() == null
                    && user.subSequenceNumber() == read.size(), "record " + (number + 1) + " is read as " + user);
            read.add(StandardCharsets.UTF_8.decode(user.data()).toString());
        }
        return read;
    }

    private void compareEvents(String how, List<String> read) {
        for (int i = 0; i < Math.min(read.size(), events.size()); i++) {
            check(read.get(i).equals(events.get(i)), KCL + ": event " + (i + 1) + " differs\nread     " + read.get(i) + "\nexpected " + events.get(i));
        }
        check(read.size() == events.size(), KCL + ": " + read.size() + " events of " + events.size());
        print(KCL, how, read.size());
    }
}
