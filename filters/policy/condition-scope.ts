/**
 * What a condition can name, as CEL types and as lazy values. A value is made when a condition asks for it,
 * once per request, whatever the number of conditions.
 */
import type { Environment } from '@marcbachmann/cel-js';
import { limits } from '../../config/limits.ts';
import type { Agent, Destination } from '../facts.ts';
import { BodyFacts, ModelFacts } from './body-facts.ts';
import { cel } from './cel.ts';
import type { RequestFacts } from './compiled.ts';
import { createLinearRegex, type LinearRegex } from './linear-regex.ts';

class AgentScope {
  readonly name: string;
  readonly id: string;
  readonly labels: Readonly<Record<string, string>>;
  constructor(agent: Agent) {
    this.name = agent.name;
    this.id = agent.id;
    this.labels = agent.labels;
  }
}

class DestinationScope {
  readonly host: string;
  readonly scheme: string;
  readonly #port: number;
  constructor(destination: Destination) {
    this.host = destination.host;
    this.scheme = destination.scheme;
    this.#port = destination.port;
  }
  get port(): bigint {
    return BigInt(this.#port);
  }
}

class McpScope {
  readonly #destination: Destination;
  constructor(destination: Destination) {
    this.#destination = destination;
  }
  get method(): string {
    return this.#call().method;
  }
  get tool(): string {
    return this.#call().tool;
  }
  #call(): Readonly<{ method: string; tool: string }> {
    const { mcp } = this.#destination;
    if (mcp.kind !== 'call') throw new Error('the request is no strict MCP message');
    return mcp;
  }
}

class RequestScope {
  readonly method: string;
  readonly #facts: RequestFacts;
  readonly #destination: Destination;
  #body: BodyFacts | undefined;
  #mcp: McpScope | undefined;
  constructor(facts: RequestFacts) {
    this.#facts = facts;
    this.#destination = facts.destination;
    this.method = facts.destination.method;
  }
  // Read when a condition asks: a record of a request does not hold all of them.
  get path(): string {
    return this.#destination.path;
  }
  get query(): string {
    return this.#destination.query;
  }
  get headers(): Readonly<Record<string, string>> {
    return this.#facts.headers;
  }
  get body_bytes(): bigint {
    return BigInt(this.#read().bytes.length);
  }
  get json(): unknown {
    return this.#read().json;
  }
  get model(): ModelFacts {
    return this.#read().model;
  }
  get mcp(): McpScope {
    this.#mcp ??= new McpScope(this.#destination);
    return this.#mcp;
  }
  #read(): BodyFacts {
    this.#body ??= new BodyFacts(this.#facts.body, this.#facts.headers);
    return this.#body;
  }
}

/** The variables of one request. */
export class Scope {
  readonly #facts: RequestFacts;
  #agent: AgentScope | undefined;
  #request: RequestScope | undefined;
  #destination: DestinationScope | undefined;
  #now: Date | undefined;
  constructor(facts: RequestFacts) {
    this.#facts = facts;
  }
  get agent(): AgentScope {
    this.#agent ??= new AgentScope(this.#facts.agent);
    return this.#agent;
  }
  get request(): RequestScope {
    this.#request ??= new RequestScope(this.#facts);
    return this.#request;
  }
  get destination(): DestinationScope {
    this.#destination ??= new DestinationScope(this.#facts.destination);
    return this.#destination;
  }
  get now(): Date {
    this.#now ??= new Date(this.#facts.nowMs);
    return this.#now;
  }
}

/** `matches` by this name runs on the linear engine; conditions are rewritten to it when they are compiled. */
export const linearMatches = 'matches_in_linear_time';

const labelMap = 'map<string, string>';

/** One environment serves a whole policy and keeps its compiled patterns. It is made for the first condition. */
export type Environments = () => Environment;

export function createEnvironment(): Environments {
  let made: Environment | undefined;
  return () => {
    made ??= newEnvironment();
    return made;
  };
}

function newEnvironment(): Environment {
  const regexes = new Map<string, LinearRegex>();
  const environment = new (cel().Environment)({
    limits: {
      maxAstNodes: limits.celNodesMax,
      maxDepth: limits.celDepthMax,
      maxListElements: limits.celNodesMax,
      maxMapEntries: limits.celNodesMax,
    },
  });
  return environment
    .registerType('Agent', { ctor: AgentScope, fields: { name: 'string', id: 'string', labels: labelMap } })
    .registerType('Destination', {
      ctor: DestinationScope,
      fields: { host: 'string', port: 'int', scheme: 'string' },
    })
    .registerType('Model', {
      ctor: ModelFacts,
      fields: { name: 'string', max_output_tokens: 'int', stream: 'bool', input_bytes: 'int' },
    })
    .registerType('Mcp', { ctor: McpScope, fields: { method: 'string', tool: 'string' } })
    .registerType('Request', {
      ctor: RequestScope,
      fields: {
        method: 'string',
        path: 'string',
        query: 'string',
        headers: labelMap,
        body_bytes: 'int',
        json: 'dyn',
        model: 'Model',
        mcp: 'Mcp',
      },
    })
    .registerVariable('agent', 'Agent')
    .registerVariable('request', 'Request')
    .registerVariable('destination', 'Destination')
    .registerVariable('now', 'google.protobuf.Timestamp')
    .registerFunction(`string.${linearMatches}(string): bool`, (text: string, pattern: string): boolean => {
      let regex = regexes.get(pattern);
      if (regex === undefined) {
        regex = createLinearRegex(pattern);
        regexes.set(pattern, regex);
      }
      return regex.test(text);
    });
}
