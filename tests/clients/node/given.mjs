// What every program is given: see ../python/given.py.
import { setTimeout as rest } from "node:timers/promises";

export const { HOST, KEY, RUN } = process.env;
export const COUNT = Number(process.env.COUNT);
export const VARIANT = JSON.parse(process.env.VARIANT ?? "{}");
export const DSN = HOST.replace("://", `://${KEY}@`) + "/1";
const PAUSE_S = Number(process.env.PAUSE_S ?? 0);

// 0, 1, 2 …, with a rest between; each is said when it is given out.
export async function* numbers() {
  for (let n = 0; n < COUNT; n += 1) {
    console.log(n);
    yield n;
    await rest(PAUSE_S * 1000);
  }
}

export function fail(n) {
  throw new TypeError(`${RUN} ${n}`);
}
