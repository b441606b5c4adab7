// What every page is given, in its address: see ../python/given.py.
const given = new URLSearchParams(location.search);

export const HOST = given.get("host");
export const KEY = given.get("key");
export const RUN = given.get("run");
export const VARIANT = JSON.parse(given.get("variant") ?? "{}");
export const DSN = HOST.replace("://", `://${KEY}@`) + "/1";
const COUNT = Number(given.get("count"));
const PAUSE_S = Number(given.get("pause_s"));

// 0, 1, 2 …, with a rest between; each is said in the console when it is given out.
export async function* numbers() {
  for (let n = 0; n < COUNT; n += 1) {
    console.log(n);
    yield n;
    await new Promise((done) => setTimeout(done, PAUSE_S * 1000));
  }
}

export function fail(n) {
  throw new TypeError(`${RUN} ${n}`);
}
