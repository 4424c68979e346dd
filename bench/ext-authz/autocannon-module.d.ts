/** The part of autocannon that the bench uses; the package has no types of its own. */
declare module 'autocannon' {
  type Request = Readonly<{
    method: string;
    path: string;
    headers: Readonly<Record<string, string>>;
    onResponse: (
      status: number,
      body: string,
      context: object,
      headers: Readonly<Record<string, string | readonly string[]>>,
    ) => void;
  }>;
  type Result = Readonly<{ errors: number; timeouts: number; non2xx: number }>;
  export default function autocannon(
    options: Readonly<{ url: string; connections: number; duration: number; requests: readonly Request[] }>,
    done: (error: Error | null | undefined, result: Result) => void,
  ): NodeJS.EventEmitter;
}
