// The module that the build step writes: the operators' page, and its content security policy.

export const page: string;
export const contentPolicy: string;
