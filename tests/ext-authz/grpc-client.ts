/** A gRPC client that asks as Envoy does. */
import { type Client, Metadata, type ServiceError } from '@grpc/grpc-js';
import type { CheckResponse } from '../../ext-authz/encode.ts';
import { authorizationService } from './protos.ts';

export type Asked = Readonly<{ answer: Promise<CheckResponse>; cancel: () => void }>;

export function ask(
  client: Client,
  message: unknown,
  more: { metadata?: Record<string, string>; deadline?: number } = {},
): Asked {
  const method = authorizationService()['Check'];
  if (method === undefined) throw new Error('no Check');
  const metadata = new Metadata();
  for (const [key, value] of Object.entries(more.metadata ?? {})) metadata.set(key, value);
  let cancel = (): void => undefined;
  const answer = new Promise<CheckResponse>((resolve, reject) => {
    const call = client.makeUnaryRequest<unknown, CheckResponse>(
      method.path,
      method.requestSerialize,
      // The service's own decoder: what Envoy would read.
      (bytes) => method.responseDeserialize(bytes) as unknown as CheckResponse,
      message,
      metadata,
      more.deadline === undefined ? {} : { deadline: more.deadline },
      (error, value) => (error !== null ? reject(error) : value !== undefined && resolve(value)),
    );
    cancel = () => call.cancel();
  });
  return { answer, cancel };
}

export const codeOf = async (answer: Promise<unknown>): Promise<number | undefined> => {
  try {
    await answer;
    return undefined;
  } catch (thrown) {
    return (thrown as ServiceError).code;
  }
};
export const errorIn = (answer: CheckResponse): string | undefined =>
  answer.denied_response?.headers.find(({ header }) => header.key === 'x-sallyport-error')?.header.value;
