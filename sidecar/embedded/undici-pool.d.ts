/** undici types its index only; this is the part of it that the pools load. */
declare module 'undici/lib/dispatcher/pool.js' {
  export { Pool as default } from 'undici';
}
